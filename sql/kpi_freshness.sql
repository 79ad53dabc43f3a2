-- kpi_freshness: how far the tables are: the time up to which the sources are taken as complete.
-- Grain: one row, named by the pipeline. Units: UTC instants; epoch counts micro-batches. Owner: order-to-cash team.
--
-- What happened before the watermark is in the tables, as far as the sources keep the lateness that they declare; it is null
-- until each of them has spoken. The clock is the time of the last epoch. The epoch says which version of the tables a row
-- belongs to (`_current.json` of each has the same number); it depends on how the input was cut into micro-batches, the other
-- columns don't.
SELECT pipeline, watermark, clock, epoch
FROM milepost.progress
