--
-- Making, changing and dropping winnow indexes
--
SET client_min_messages = warning;

-- How many rows the index finds, if it finds what a sequential scan does and winnow_check agrees
CREATE FUNCTION agree(tbl text, target text DEFAULT 'e', cond text DEFAULT 'true') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	query text := format('SELECT array_agg(id ORDER BY id), array_agg(round(d::numeric, 6) ORDER BY d) FROM'
		' (SELECT id, %2$s <-> ''[3,1,2]'' AS d FROM %1$s WHERE %3$s AND %2$s IS NOT NULL'
		'  ORDER BY %2$s <-> ''[3,1,2]'' LIMIT 100000) found', tbl, target, cond);
	ids integer[];
	distances numeric[];
	right_ids integer[];
	right_distances numeric[];
	line text;
	used boolean := false;
	name regclass;
BEGIN
	PERFORM set_config('winnow.recall', '1', true);
	PERFORM set_config('enable_seqscan', 'off', true);
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		used := used OR line LIKE '%Order By: %<->%';
	END LOOP;
	EXECUTE query INTO ids, distances;
	PERFORM set_config('enable_seqscan', 'on', true), set_config('enable_indexscan', 'off', true);
	EXECUTE query INTO right_ids, right_distances;
	PERFORM set_config('enable_indexscan', 'on', true);
	FOR name IN SELECT c.oid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
		WHERE a.amname = 'winnow' AND c.relkind = 'i' AND i.indisvalid
			AND i.indrelid IN (SELECT relid FROM pg_partition_tree(tbl) UNION SELECT tbl::regclass)
	LOOP
		PERFORM winnow_check(name, true);
	END LOOP;
	IF ids IS DISTINCT FROM right_ids OR distances IS DISTINCT FROM right_distances THEN
		RETURN format('index %s, table %s', ids, right_ids);
	END IF;
	RETURN CASE WHEN used THEN '' ELSE 'no index scan, ' END || coalesce(cardinality(ids), 0) || ' rows agree';
END $$;

-- Rows with the ids first..last
CREATE FUNCTION add_rows(tbl text, first integer, last integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('INSERT INTO %s (id, cat, e) SELECT g, g %% 10, ARRAY[g %% 13, g %% 17, g * g %% 19]::real[]::vector'
		' FROM generate_series(%s, %s) g', tbl, first, last);
END $$;

-- What the access method can do
SELECT p, pg_indexam_has_property(a.oid, p)
FROM pg_am a, unnest(ARRAY['can_order', 'can_unique', 'can_multi_col', 'can_exclude', 'can_include']) p
WHERE a.amname = 'winnow';
SELECT obj_description(oid, 'pg_am') FROM pg_am WHERE amname = 'winnow';

-- An empty table, one row, the same row many times
CREATE TABLE items (id integer, cat integer, e vector(3));
CREATE INDEX items_index ON items USING winnow (e vector_l2_ops, cat) WITH (list_size = 8);
SELECT p, pg_index_has_property('items_index', p) FROM unnest(ARRAY['clusterable', 'index_scan', 'bitmap_scan', 'backward_scan']) p;
SELECT p, pg_index_column_has_property('items_index', 2, p)
FROM unnest(ARRAY['asc', 'orderable', 'returnable', 'search_array', 'search_nulls']) p;
SELECT agree('items');
SELECT metric, dimensions, attributes, list_size, levels, lists, rows FROM winnow_index_info('items_index');
INSERT INTO items VALUES (1, 1, '[1,2,3]');
SELECT agree('items');
INSERT INTO items SELECT g, g, '[1,2,3]' FROM generate_series(2, 100) g;
SELECT agree('items');
SELECT rows, levels > 1 AS deep, largest_list <= 10 AS small FROM winnow_index_info('items_index');
-- Rows without a vector are not in the index
INSERT INTO items VALUES (101, 1, NULL), (102, NULL, '[0,0,0]'), (103, NULL, NULL);
SELECT agree('items'), rows FROM winnow_index_info('items_index');
-- Dead rows leave it with VACUUM
DELETE FROM items WHERE id > 10;
VACUUM (INDEX_CLEANUP ON) items;
SELECT agree('items'), rows FROM winnow_index_info('items_index');
SELECT add_rows('items', 11, 300);
SELECT agree('items');
TRUNCATE items;
SELECT agree('items');
SELECT add_rows('items', 1, 300);
SELECT agree('items');

-- The list size is a property of what was built
ALTER INDEX items_index SET (list_size = 20);
SELECT list_size FROM winnow_index_info('items_index');
REINDEX INDEX items_index;
SELECT list_size, largest_list <= 20 AS small, agree('items') FROM winnow_index_info('items_index');
ALTER INDEX items_index RESET (list_size);
REINDEX TABLE items;
SELECT list_size, lists, agree('items') FROM winnow_index_info('items_index');
ALTER INDEX items_index SET (list_size = 8);
VACUUM FULL items;
SELECT list_size, largest_list <= 8 AS small, agree('items') FROM winnow_index_info('items_index');
REINDEX INDEX CONCURRENTLY items_index;
SELECT agree('items');
ALTER INDEX items_index RENAME TO items_winnow;
ALTER TABLE items RENAME COLUMN cat TO category;
ALTER TABLE items RENAME COLUMN category TO cat;
SELECT agree('items');
-- The table is rewritten, and the vectors with it
ALTER TABLE items ALTER cat TYPE bigint;
SELECT agree('items');
ALTER TABLE items ALTER e TYPE vector(4) USING e || '[1]';
SELECT dimensions, rows FROM winnow_index_info('items_winnow');
ALTER TABLE items ALTER e TYPE vector(3) USING subvector(e, 1, 3), ALTER cat TYPE integer;
SELECT agree('items');
SELECT pg_get_indexdef('items_winnow'::regclass);

-- Faults
CREATE INDEX ON items USING winnow (e) WITH (list_size = 7);
CREATE INDEX ON items USING winnow (e) WITH (list_size = 4097);
CREATE INDEX ON items USING winnow (e) WITH (list_size = many);
CREATE INDEX ON items USING winnow (e) WITH (lists = 100);
ALTER INDEX items_winnow SET (fillfactor = 90);
CREATE INDEX ON items USING winnow (cat);
CREATE INDEX ON items USING winnow (e, e vector_cosine_ops);
CREATE UNIQUE INDEX ON items USING winnow (e);
CREATE INDEX ON items USING winnow (e) INCLUDE (cat);
CREATE INDEX ON items USING winnow (e, cat DESC);
CREATE INDEX ON items USING winnow (e, cat NULLS FIRST);
CREATE INDEX ON items USING winnow (e, cat int8_ops);
CREATE INDEX ON items USING winnow (e vector_ops);
ALTER TABLE items ADD EXCLUDE USING winnow (cat WITH =);
\set VERBOSITY sqlstate
ALTER TABLE items ADD EXCLUDE USING winnow (cat WITH =, e WITH =);
\set VERBOSITY default
CREATE TABLE faults (id integer, loose vector, place point, doc jsonb, e vector(2));
CREATE INDEX ON faults USING winnow (loose);
CREATE INDEX ON faults USING winnow (e, place);
CREATE INDEX ON faults USING winnow (e, doc);
CREATE INDEX ON faults USING winnow ((loose::vector(3)));
INSERT INTO faults (id, loose) VALUES (1, '[1,2,3]');
INSERT INTO faults (id, loose) VALUES (2, '[1,2]');
INSERT INTO faults (id, e) VALUES (3, '[1,2,3]');
INSERT INTO faults (id, loose) VALUES (4, '[4,5,6]'), (5, '[1]');
UPDATE faults SET loose = '[1,2,3,4]' WHERE id = 1;
SELECT agree('faults', '(loose::vector(3))');
-- The rows that are there must fit, too
DELETE FROM faults;
INSERT INTO faults (id, loose) VALUES (6, '[1]');
DROP INDEX faults_loose_idx;
CREATE INDEX ON faults USING winnow ((loose::vector(2)));
SELECT count(*) FROM pg_indexes WHERE tablename = 'faults';
DROP TABLE faults;
CLUSTER items USING items_winnow;

-- As many columns as an index can have, and no more
CREATE TABLE wide (id integer, cat integer, e vector(3));
SELECT 'CREATE INDEX wide_index ON wide USING winnow (e, ' || string_agg('(cat + ' || g || ')', ', ') || ') WITH (list_size = 64)'
FROM generate_series(1, 31) g \gexec
SELECT 'CREATE INDEX ON wide USING winnow (e, ' || string_agg('(cat + ' || g || ')', ', ') || ')'
FROM generate_series(1, 32) g \gexec
SELECT add_rows('wide', 1, 500);
SELECT agree('wide'), agree('wide', cond => 'cat + 31 = 33 AND cat + 1 = 3');
DROP TABLE wide;

-- Many dimensions: a row takes as many pages as it needs
CREATE TABLE long (id integer, e vector(16000));
INSERT INTO long SELECT g, array_fill(g / 10.0::real, ARRAY[16000])::vector FROM generate_series(1, 12) g;
CREATE INDEX long_index ON long USING winnow (e vector_l2_ops, id) WITH (list_size = 8);
INSERT INTO long SELECT g, array_fill(g / 10.0::real, ARRAY[16000])::vector FROM generate_series(13, 20) g;
SET enable_seqscan = off;
SELECT id FROM long ORDER BY e <-> array_fill(1.51::real, ARRAY[16000])::vector LIMIT 3;
RESET enable_seqscan;
SELECT winnow_check('long_index', true);
DROP TABLE long;

-- Partial
CREATE TABLE part (id integer, cat integer, e vector(3));
CREATE INDEX part_index ON part USING winnow (e) WITH (list_size = 8) WHERE cat < 5;
SELECT add_rows('part', 1, 200);
SELECT agree('part', cond => 'cat < 5'), agree('part', cond => 'cat < 3'), agree('part');
SELECT rows FROM winnow_index_info('part_index');
UPDATE part SET cat = cat + 3;
SELECT agree('part', cond => 'cat < 5');
VACUUM (INDEX_CLEANUP ON) part;
SELECT rows, agree('part', cond => 'cat < 5') FROM winnow_index_info('part_index');
DROP TABLE part;

-- Expressions, a domain, a generated column
CREATE DOMAIN small AS integer CHECK (VALUE < 100);
CREATE TABLE express (id integer, cat small, e vector, doc jsonb,
	tag text GENERATED ALWAYS AS ('tag ' || (id % 7)) STORED);
CREATE INDEX express_index ON express
	USING winnow ((doc ->> 'lang'), (e::vector(3)) vector_l2_ops, lower(tag), cat) WITH (list_size = 8);
SELECT add_rows('express', 1, 200);
UPDATE express SET doc = jsonb_build_object('lang', chr(97 + id % 3));
SELECT agree('express', '(e::vector(3))'), agree('express', '(e::vector(3))', $$doc ->> 'lang' = 'b' AND lower(tag) = 'tag 3'$$);
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM express WHERE doc ->> 'lang' = 'b' AND lower(tag) IN ('tag 3', 'tag 4') AND cat > 1
ORDER BY e::vector(3) <-> '[1,2,3]' LIMIT 5;
RESET enable_seqscan;
DROP TABLE express;

-- Unlogged, temporary
CREATE UNLOGGED TABLE volatile (id integer, cat integer, e vector(3));
SELECT add_rows('volatile', 1, 50);
CREATE INDEX volatile_index ON volatile USING winnow (e, cat) WITH (list_size = 8);
SELECT add_rows('volatile', 51, 200);
SELECT agree('volatile');
ALTER TABLE volatile SET LOGGED;
SELECT agree('volatile');
ALTER TABLE volatile SET UNLOGGED;
SELECT agree('volatile');
DROP TABLE volatile;
CREATE TEMPORARY TABLE passing (id integer, cat integer, e vector(3)) ON COMMIT DELETE ROWS;
CREATE INDEX passing_index ON passing USING winnow (e, cat) WITH (list_size = 8);
BEGIN;
SELECT add_rows('passing', 1, 200);
SELECT agree('passing');
COMMIT;
SELECT agree('passing');
DROP TABLE passing;
CREATE TEMPORARY TABLE lasting (id integer, cat integer, e vector(3));
SELECT add_rows('lasting', 1, 100);
CREATE INDEX ON lasting USING winnow (e, cat) WITH (list_size = 8);
SELECT add_rows('lasting', 101, 200);
DELETE FROM lasting WHERE id % 2 = 0;
VACUUM (INDEX_CLEANUP ON) lasting;
SELECT add_rows('lasting', 201, 300);
SELECT agree('lasting');
DROP TABLE lasting;

-- Partitioned
CREATE TABLE parted (id integer, cat integer, e vector(3)) PARTITION BY RANGE (cat);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (4);
CREATE INDEX parted_index ON parted USING winnow (e vector_l2_ops, cat) WITH (list_size = 8);
CREATE TABLE parted_high (id integer, cat integer, e vector(3));
CREATE INDEX parted_high_index ON parted_high USING winnow (e vector_l2_ops, cat);
ALTER TABLE parted ATTACH PARTITION parted_high FOR VALUES FROM (4) TO (20);
SELECT add_rows('parted', 1, 200);
SELECT agree('parted'), agree('parted', cond => 'cat = 7'), agree('parted', cond => 'cat BETWEEN 3 AND 5');
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM parted WHERE cat BETWEEN 3 AND 5 ORDER BY e <-> '[1,2,3]' LIMIT 5;
RESET enable_seqscan;
UPDATE parted SET cat = cat + 1;
SELECT agree('parted');
ALTER TABLE parted DETACH PARTITION parted_low;
SELECT agree('parted'), agree('parted_low');
DROP TABLE parted, parted_low;

-- A materialized view
CREATE MATERIALIZED VIEW seen AS SELECT id, cat, e FROM items;
CREATE INDEX ON seen USING winnow (e, cat);
CREATE UNIQUE INDEX ON seen (id);
DELETE FROM items WHERE id % 2 = 0;
REFRESH MATERIALIZED VIEW CONCURRENTLY seen;
SELECT agree('seen');
REFRESH MATERIALIZED VIEW seen;
SELECT agree('seen');
DROP MATERIALIZED VIEW seen;

-- Transactions: everything is undone
SELECT count(*) AS before FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'winnow' \gset
BEGIN;
CREATE INDEX undone ON items USING winnow (e vector_cosine_ops, cat) WITH (list_size = 8);
SELECT add_rows('items', 1001, 1100);
SELECT winnow_check('undone', true);
ROLLBACK;
SELECT count(*) - :before AS more FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'winnow';
SELECT agree('items');
BEGIN;
DROP INDEX items_winnow;
SELECT add_rows('items', 1101, 1200);
ROLLBACK;
SELECT agree('items');
BEGIN;
SELECT add_rows('items', 1201, 1250);
SAVEPOINT one;
SELECT add_rows('items', 1251, 1300);
DELETE FROM items WHERE id % 3 = 0;
SELECT agree('items');
ROLLBACK TO one;
SELECT add_rows('items', 1301, 1350);
SAVEPOINT two;
UPDATE items SET e = e + '[1,1,1]', cat = NULL WHERE id % 4 = 1;
RELEASE two;
SELECT agree('items');
COMMIT;
SELECT agree('items');
-- Made and filled in one transaction, with rows that changed in it before
BEGIN;
CREATE TABLE fresh (id integer, cat integer, e vector(3));
SELECT add_rows('fresh', 1, 100);
UPDATE fresh SET cat = cat + 1;
UPDATE fresh SET e = e + '[2,0,0]' WHERE id % 2 = 0;
DELETE FROM fresh WHERE id % 5 = 0;
CREATE INDEX fresh_index ON fresh USING winnow (e, cat) WITH (list_size = 8);
UPDATE fresh SET cat = cat + 1 WHERE id % 3 = 0;
SELECT agree('fresh');
COMMIT;
SELECT agree('fresh');
TRUNCATE fresh;
BEGIN;
SELECT add_rows('fresh', 1, 100);
TRUNCATE fresh;
SELECT add_rows('fresh', 1, 50);
SELECT agree('fresh');
ROLLBACK;
SELECT agree('fresh');
DROP TABLE fresh;
-- Two-phase commit
BEGIN;
SELECT add_rows('items', 2001, 2050);
PREPARE TRANSACTION 'later';
SELECT agree('items');
COMMIT PREPARED 'later';
SELECT agree('items');

-- Concurrently; a build that fails leaves an index that is not used, and can be mended
CREATE INDEX CONCURRENTLY items_cosine ON items USING winnow (cat, e vector_cosine_ops);
SELECT winnow_check('items_cosine', true);
DROP INDEX CONCURRENTLY items_cosine;
CREATE TABLE mixed (id integer, cat integer, e vector);
INSERT INTO mixed VALUES (1, 1, '[1,2,3]'), (2, 2, '[1,2]');
CREATE INDEX CONCURRENTLY mixed_index ON mixed USING winnow ((e::vector(3)));
SELECT indisvalid FROM pg_index WHERE indexrelid = 'mixed_index'::regclass;
SELECT winnow_index_info('mixed_index');
DELETE FROM mixed WHERE id = 2;
SELECT add_rows('mixed', 3, 100);
REINDEX INDEX CONCURRENTLY mixed_index;
SELECT agree('mixed', '(e::vector(3))');
DROP TABLE mixed;

-- INSERT ... ON CONFLICT, MERGE, COPY
CREATE TABLE keyed (id integer PRIMARY KEY, cat integer, e vector(3));
CREATE INDEX ON keyed USING winnow (e, cat) WITH (list_size = 8);
SELECT add_rows('keyed', 1, 50);
INSERT INTO keyed SELECT g, 99, '[9,9,9]' FROM generate_series(26, 75) g
ON CONFLICT (id) DO UPDATE SET cat = excluded.cat, e = excluded.e;
SELECT agree('keyed'), agree('keyed', cond => 'cat = 99');
MERGE INTO keyed USING (SELECT g AS id FROM generate_series(70, 90) g) s ON keyed.id = s.id
WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.id, 5, '[5,5,5]');
SELECT agree('keyed');
COPY keyed FROM STDIN;
201	1	[1,2,3]
202	\N	[4,5,6]
203	3	\N
\.
SELECT agree('keyed');
DROP TABLE keyed;

-- The functions want a winnow index
SELECT winnow_index_info('items');
SELECT winnow_index_info('pg_class_oid_index');
SELECT winnow_check('pg_class');

DROP TABLE items;
DROP DOMAIN small;
DROP FUNCTION agree(text, text, text), add_rows(text, integer, integer);
