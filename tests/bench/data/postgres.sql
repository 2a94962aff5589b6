-- The data set on PostgreSQL; psql variable :many is a row count.
CREATE TABLE orders (id bigint PRIMARY KEY, region text NOT NULL);
INSERT INTO orders SELECT i, 'region-' || lpad((i % 20)::text, 2, '0') FROM generate_series(1, 1000) i;
CREATE TABLE series (k1 text NOT NULL, k2 text NOT NULL, v double precision NOT NULL);
INSERT INTO series
  SELECT 'host-' || lpad((i % 1000)::text, 4, '0'), 'metric-' || lpad(i::text, 6, '0'), i * 1.0009765625
  FROM generate_series(0, 99999) i;
-- A table of its own: reading a part of a large table is not reading a small one.
CREATE TABLE many (LIKE series INCLUDING ALL);
INSERT INTO many
  SELECT 'host-' || lpad((i % 1000)::text, 4, '0'), 'metric-' || lpad(i::text, 6, '0'), i * 1.0009765625
  FROM generate_series(0, :many - 1) i;
-- Table n has (n - 1) % 20 + 1 rows.
DO $$ BEGIN
  FOR n IN 1..50 LOOP
    EXECUTE format('CREATE TABLE tiny_%s (label text, v double precision)', lpad(n::text, 2, '0'));
    EXECUTE format('INSERT INTO tiny_%s SELECT ''l'' || i, i * 1.5 FROM generate_series(1, %s) i',
                   lpad(n::text, 2, '0'), (n - 1) % 20 + 1);
  END LOOP;
END $$;
VACUUM ANALYZE;
-- What the server still has to write it writes now, not while something is measured.
CHECKPOINT;
