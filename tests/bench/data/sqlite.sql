-- The data set on SQLite. Number t has (t - 1) % 20 + 1 rows.
PRAGMA journal_mode = wal;
CREATE TABLE tiny (t integer, label text, v real);
WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 50),
               l(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM l WHERE i < 20)
INSERT INTO tiny SELECT n, 'l' || i, i * 1.5 FROM t, l WHERE i <= (n - 1) % 20 + 1;
ANALYZE;
