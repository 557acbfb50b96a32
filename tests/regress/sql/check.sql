--
-- winnow_check: is the index whole, and does it agree with the table?
--
SET client_min_messages = warning;

CREATE TABLE checked (id int, embedding vector(8), number int, name text, tags text[], price numeric);
CREATE FUNCTION add_rows(first int, last int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO checked
	SELECT i, (SELECT array_agg(sin(i * d) * 10)::vector FROM generate_series(1, 8) d), i % 5,
		CASE WHEN i % 7 > 0 THEN 'name ' || i % 11 END, ARRAY['tag ' || i % 3, 'tag ' || i % 4], i / 8.0
	FROM generate_series(first, last) i
$$;

-- An empty index, one that was built, and one that grew
CREATE INDEX checked_empty ON checked USING winnow (embedding, number, name, tags, price) WITH (list_size = 8);
SELECT winnow_check('checked_empty');
SELECT winnow_check('checked_empty', heapallindexed => true);
SELECT add_rows(1, 500);
CREATE INDEX checked_cosine ON checked USING winnow (embedding vector_cosine_ops, number, name) WITH (list_size = 16);
CREATE INDEX checked_ip ON checked USING winnow (embedding vector_ip_ops, tags, price) WITH (list_size = 32);
CREATE INDEX checked_some ON checked USING winnow (embedding, lower(name)) WITH (list_size = 8) WHERE number < 3;
SELECT add_rows(501, 1000);
SELECT count(winnow_check(i.indexrelid, true)) FROM pg_index i WHERE indrelid = 'checked'::regclass;
SELECT levels > 2 AS deep FROM winnow_index_info('checked_empty');

-- Vectors that are null, zero or equal
INSERT INTO checked (id) SELECT i FROM generate_series(2001, 2010) i;
INSERT INTO checked (id, embedding) SELECT i, '[0,0,0,0,0,0,0,0]' FROM generate_series(2011, 2050) i;
INSERT INTO checked (id, embedding) SELECT i, '[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8]' FROM generate_series(2051, 2100) i;
SELECT count(winnow_check(i.indexrelid, true)) FROM pg_index i WHERE indrelid = 'checked'::regclass;

-- Rows updated, in place and not, deleted, and given up
UPDATE checked SET id = id + 1;
UPDATE checked SET number = number + 1 WHERE id % 10 = 0;
UPDATE checked SET embedding = '[1,2,3,4,5,6,7,8]' WHERE id % 50 = 1;
UPDATE checked SET embedding = NULL WHERE id % 50 = 2;
DELETE FROM checked WHERE id % 4 = 0;
BEGIN;
SELECT add_rows(3001, 3200);
DELETE FROM checked WHERE id < 100;
SELECT count(winnow_check(i.indexrelid, true)) FROM pg_index i WHERE indrelid = 'checked'::regclass;
ROLLBACK;
SELECT count(winnow_check(i.indexrelid, true)) FROM pg_index i WHERE indrelid = 'checked'::regclass;
VACUUM checked;
SELECT count(winnow_check(i.indexrelid, true)) FROM pg_index i WHERE indrelid = 'checked'::regclass;
SELECT add_rows(4001, 4500);
SELECT count(winnow_check(i.indexrelid, true)) FROM pg_index i WHERE indrelid = 'checked'::regclass;
REINDEX INDEX CONCURRENTLY checked_some;
SELECT winnow_check('checked_some', true);

-- Nothing stays locked, in a transaction that goes on
BEGIN;
SELECT winnow_check('checked_empty', true);
SELECT mode, locktype FROM pg_locks WHERE relation IN ('checked'::regclass, 'checked_empty'::regclass) AND pid = pg_backend_pid();
ROLLBACK;

-- Within little memory
SET maintenance_work_mem = '1MB';
SELECT winnow_check('checked_empty', true);
RESET maintenance_work_mem;

-- Unlogged and temporary indexes, and those of partitions
CREATE UNLOGGED TABLE unlogged (embedding vector(8));
INSERT INTO unlogged SELECT embedding FROM checked;
CREATE INDEX unlogged_index ON unlogged USING winnow (embedding) WITH (list_size = 8);
INSERT INTO unlogged SELECT embedding FROM checked;
SELECT winnow_check('unlogged_index', true);
CREATE TEMPORARY TABLE temporary (embedding vector(8));
CREATE INDEX temporary_index ON temporary USING winnow (embedding) WITH (list_size = 8);
INSERT INTO temporary SELECT embedding FROM checked;
SELECT winnow_check('temporary_index', true);
CREATE TABLE parted (embedding vector(8), number int) PARTITION BY LIST (number);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE INDEX parted_index ON parted USING winnow (embedding, number);
INSERT INTO parted SELECT embedding, number FROM checked WHERE number = 1;
SELECT winnow_check('parted_1_embedding_number_idx', true);

-- An expression is run as the table's owner, whoever checks
CREATE ROLE regress_winnow_owner;
CREATE FUNCTION who() RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN current_user; END';
CREATE TABLE owned (embedding vector(8));
ALTER TABLE owned OWNER TO regress_winnow_owner;
INSERT INTO owned VALUES ('[1,2,3,4,5,6,7,8]');
CREATE INDEX owned_index ON owned USING winnow (embedding, who());
SELECT winnow_check('owned_index', true);

-- What cannot be checked, and who may not
SELECT winnow_check('parted_index');
SELECT winnow_check('checked');
CREATE INDEX checked_btree ON checked (id);
SELECT winnow_check('checked_btree');
SELECT winnow_check(NULL) IS NULL AS nothing_asked;
SELECT winnow_check(0);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'checked_ip'::regclass;
SELECT winnow_check('checked_ip');
SELECT winnow_index_info('checked_ip');
UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'checked_ip'::regclass;
SET ROLE regress_winnow_owner;
SELECT winnow_check('owned_index');
RESET ROLE;
GRANT EXECUTE ON FUNCTION winnow_check TO regress_winnow_owner;
SET ROLE regress_winnow_owner;
SELECT winnow_check('owned_index');
RESET ROLE;

-- An index expression that is not immutable after all
CREATE TABLE lied (embedding vector(8), number int);
CREATE FUNCTION liar(number int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN number + 1; END';
CREATE INDEX lied_index ON lied USING winnow (embedding, liar(number));
INSERT INTO lied VALUES ('[1,2,3,4,5,6,7,8]', 1);
SELECT winnow_check('lied_index', true);
CREATE OR REPLACE FUNCTION liar(number int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN number + 2; END';
SELECT winnow_check('lied_index', true);

DROP TABLE lied, owned, parted, temporary, unlogged, checked;
DROP FUNCTION liar, who, add_rows;
REVOKE EXECUTE ON FUNCTION winnow_check FROM regress_winnow_owner;
DROP ROLE regress_winnow_owner;
