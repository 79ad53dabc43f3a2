SELECT key, max(watermark()) AS w FROM a GROUP BY key
