COPY a TO 'a.parquet'
