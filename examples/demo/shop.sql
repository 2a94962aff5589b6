-- The demo's shop: customers, orders and stock. Deterministic: the same rows on every machine, on every day.
-- `sql-exporter demo` writes it to shop.db in a temporary folder; serving never writes.

CREATE TABLE customers (
  id      INTEGER PRIMARY KEY,
  name    TEXT NOT NULL,
  region  TEXT NOT NULL,
  active  BOOLEAN NOT NULL
);

CREATE TABLE stock (
  sku      TEXT PRIMARY KEY,
  product  TEXT NOT NULL,
  on_hand  INTEGER NOT NULL,
  reserved INTEGER NOT NULL,
  state    TEXT NOT NULL CHECK (state IN ('ok', 'low', 'out'))
);

CREATE TABLE orders (
  id              INTEGER PRIMARY KEY,
  customer_id     INTEGER NOT NULL REFERENCES customers (id),
  sku             TEXT NOT NULL REFERENCES stock (sku),
  status          TEXT NOT NULL CHECK (status IN ('open', 'paid', 'shipped', 'cancelled')),
  payment_method  TEXT NOT NULL,
  cents           INTEGER NOT NULL,
  minutes_to_ship REAL,                -- NULL until the order is shipped
  created_at      TEXT NOT NULL
);

WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
INSERT INTO customers
SELECT i,
       'Customer ' || i,
       CASE WHEN i % 10 < 5 THEN 'north' WHEN i % 10 < 8 THEN 'south' ELSE 'overseas' END,
       i % 7 <> 0
FROM n;

INSERT INTO stock VALUES
  ('B-01', 'Blue chair',         42,  5, 'ok'),
  ('B-02', 'Oak table, 2 m',      3,  2, 'low'),
  ('B-03', 'Lamp "Aurora"',       0,  0, 'out'),
  ('B-04', 'Café set \ 4 cups', 118, 11, 'ok');

WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
INSERT INTO orders
SELECT i,
       1 + (i * 37) % 60,
       'B-0' || (1 + (i * 11) % 4),
       CASE WHEN i % 20 = 0 THEN 'cancelled' WHEN i > 380 THEN 'open' WHEN i % 4 = 1 THEN 'paid' ELSE 'shipped' END,
       CASE i % 5 WHEN 0 THEN 'invoice' WHEN 1 THEN 'paypal' ELSE 'card' END,
       995 + (i * 7919) % 24000,
       CASE WHEN i % 20 <> 0 AND i <= 380 AND i % 4 <> 1 THEN 0.5 + (i * 13) % 96 * 2.5 END,
       strftime('%Y-%m-%dT%H:%M:%S', 1767225600 + i * 5400, 'unixepoch')
FROM n;
