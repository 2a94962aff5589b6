-- Tables and rows for the business example: mysql shop < init-mysql.sql

CREATE TABLE users (
  id              BIGINT PRIMARY KEY,
  region          VARCHAR(40) NOT NULL,
  user_type       VARCHAR(40) NOT NULL,
  active          TINYINT NOT NULL,
  login_frequency DECIMAL(12,2) NOT NULL
);

CREATE TABLE orders (
  id             BIGINT PRIMARY KEY,
  status         VARCHAR(40) NOT NULL,
  payment_method VARCHAR(40) NOT NULL,
  total_amount   DECIMAL(12,2) NOT NULL
);

INSERT INTO users (id, region, user_type, active, login_frequency) VALUES
  (1, 'north', 'private', 1, 1.50),
  (2, 'north', 'private', 1, 2.50),
  (3, 'north', 'company', 1, 8.00),
  (4, 'south', 'private', 1, 0.25),
  (5, 'south', 'private', 0, 9.00),
  (6, 'south', 'company', 1, 4.00);

INSERT INTO orders (id, status, payment_method, total_amount) VALUES
  (1, 'paid', 'card', 100.25),
  (2, 'paid', 'card', 49.50),
  (3, 'paid', 'invoice', 1200.00),
  (4, 'open', 'invoice', 75.75),
  (5, 'cancelled', 'paypal', 19.50);
