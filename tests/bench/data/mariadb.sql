-- The data set on MariaDB. Table n has (n - 1) % 20 + 1 rows.
delimiter //
FOR n IN 1..50 DO
  EXECUTE IMMEDIATE concat('CREATE TABLE tiny_', lpad(n, 2, '0'), ' (label varchar(8), v double)');
  EXECUTE IMMEDIATE concat('INSERT INTO tiny_', lpad(n, 2, '0'),
    ' SELECT concat(''l'', seq), seq * 1.5 FROM seq_1_to_20 WHERE seq <= ', (n - 1) MOD 20 + 1);
END FOR //
delimiter ;
