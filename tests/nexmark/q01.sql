-- Nexmark 1: currency conversion. Prices in euros, exact to a tenth of a cent.
SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bid
