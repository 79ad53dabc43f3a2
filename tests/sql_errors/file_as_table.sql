SELECT * FROM 'data.csv'
