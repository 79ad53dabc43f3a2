SELECT approx_median(quantity) AS n FROM a
