SELECT count(*) AS value FROM orders
