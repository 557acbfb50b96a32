--
-- Scanning winnow indexes: what is promised of an answer, clause by clause
--
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';

CREATE TABLE items (
	id integer, e vector(3), cat integer, price numeric, name text, code text COLLATE "C",
	tags text[], made date, sold boolean, note integer);
INSERT INTO items
SELECT g, ARRAY[g * 7919 % 1009, g * 10473 % 997, g * 12997 % 991]::real[]::vector,
	nullif(g % 20, 13), (g % 50) / 4.0, 'name ' || g % 30, 'code_' || chr(97 + g % 26) || g % 9,
	ARRAY['t' || g % 7, 'u' || g % 11], date '2024-01-01' + g % 100, g % 3 = 0, g % 10
FROM generate_series(1, 1000) g;
CREATE INDEX items_index ON items USING winnow (e vector_l2_ops, cat, price, name, code, tags, made, sold) WITH (list_size = 16);
ANALYZE items;
SET enable_seqscan = off;
SET enable_sort = off;

-- Runs a query whose first two columns are id and distance with the index and without
CREATE FUNCTION compare(query text, OUT index_used boolean, OUT n bigint, OUT same_rows boolean, OUT same_distances boolean,
	OUT in_order boolean)
LANGUAGE plpgsql AS $$
DECLARE
	ids integer[];
	distances float8[];
	right_ids integer[];
	right_distances float8[];
	line text;
	into_arrays text := format('SELECT array_agg(id), array_agg(d) FROM (%s) found(id, d)', query);
BEGIN
	index_used := false;
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		index_used := index_used OR line LIKE '%Index Scan using items%';
	END LOOP;
	EXECUTE into_arrays INTO ids, distances;
	PERFORM set_config('enable_indexscan', 'off', true), set_config('enable_seqscan', 'on', true);
	EXECUTE into_arrays INTO right_ids, right_distances;
	PERFORM set_config('enable_indexscan', 'on', true), set_config('enable_seqscan', 'off', true);
	n := coalesce(cardinality(ids), 0);
	same_rows := (SELECT array_agg(i ORDER BY i) FROM unnest(ids) i) IS NOT DISTINCT FROM
		(SELECT array_agg(i ORDER BY i) FROM unnest(right_ids) i);
	same_distances := distances IS NOT DISTINCT FROM right_distances;
	in_order := distances IS NOT DISTINCT FROM (SELECT array_agg(d ORDER BY d) FROM unnest(distances) d);
END $$;

-- 1. Filters are ordinary WHERE clauses
EXPLAIN (COSTS OFF) SELECT id FROM items WHERE cat = 3 ORDER BY e <-> '[500,500,500]' LIMIT 5;
EXPLAIN (COSTS OFF) SELECT id FROM items
WHERE cat BETWEEN 3 AND 7 AND price < 10 AND price >= 2.5 AND name IN ('name 3', 'name 4', 'name 7') AND code > 'code_c'
	AND tags && '{t1,u2}' AND tags @> '{t1}' AND made > '2024-01-31' AND NOT sold
ORDER BY e <-> '[500,500,500]' LIMIT 5;
EXPLAIN (COSTS OFF) SELECT id FROM items WHERE cat IS NULL AND name IS NOT NULL AND e IS NOT NULL ORDER BY e <-> '[500,500,500]' LIMIT 5;
-- what the index cannot answer is a filter
EXPLAIN (COSTS OFF) SELECT id FROM items
WHERE cat = 3 AND note > 5 AND name LIKE 'name 2%' AND (sold OR price = 1) AND cat NOT IN (4, 5) ORDER BY e <-> '[500,500,500]' LIMIT 5;
EXPLAIN (COSTS OFF) SELECT id FROM items WHERE cat = 3 ORDER BY e <-> '[500,500,500]', e <-> '[1,2,3]' LIMIT 5;
-- other distances, other directions are not the index's
SET enable_seqscan = on;
SET enable_sort = on;
EXPLAIN (COSTS OFF) SELECT id FROM items WHERE cat = 3 ORDER BY e <=> '[500,500,500]' LIMIT 5;
EXPLAIN (COSTS OFF) SELECT id FROM items WHERE cat = 3 ORDER BY e <-> '[500,500,500]' DESC LIMIT 5;
EXPLAIN (COSTS OFF) SELECT id FROM items WHERE cat = 3;
EXPLAIN (COSTS OFF) SELECT id FROM items WHERE e IS NULL ORDER BY e <-> '[500,500,500]' LIMIT 5;
SET enable_seqscan = off;
SET enable_sort = off;

-- 2. to 5. No wrong row, never short, recall 1 is exact, and in order
SET winnow.recall = 1;
SELECT w, c.* FROM unnest(ARRAY[
	'true', 'cat = 3', 'cat < 3', 'cat <= 3', 'cat > 15', 'cat >= 15', 'cat BETWEEN 3 AND 7', 'cat IN (1, 5, 99)',
	'cat = ANY (ARRAY[2, NULL, 4])', 'cat IS NULL', 'cat IS NOT NULL', 'cat = 3::bigint', 'cat > 100000000000',
	'price = 2.5', 'price > 12', 'price BETWEEN 1.1 AND 1.3', 'name = ''name 3''', 'name > ''name 3''',
	'name IN (''name 1'', ''name 2'', ''other'')', 'code = ''code_c2''', 'code < ''code_c''', 'code >= ''code_x'' AND code < ''code_y''',
	'tags && ''{t1}''', 'tags @> ''{t1,u2}''', 'tags && ''{none}''', 'tags @> ''{}''', 'tags && ''{}''',
	'made = ''2024-02-01''', 'made > timestamp ''2024-04-08 12:00''', 'sold', 'NOT sold', 'sold IS NOT TRUE',
	'cat = 3 AND price < 5', 'cat > 3 AND cat < 3', 'cat = 3 AND cat IS NULL', 'cat = 3 OR price = 1', 'NOT (cat = 3)',
	'cat <> 3', 'name LIKE ''name 1%''', 'note = 4 AND cat < 10', 'id % 97 = 1', 'e <-> ''[0,0,0]'' < 700'
]) w, compare('SELECT id, e <-> ''[500,400,300]'' FROM items WHERE ' || w || ' ORDER BY e <-> ''[500,400,300]''') c;
SELECT count(*) FROM (SELECT id FROM items WHERE cat = 3 AND cat = 4 ORDER BY e <-> '[1,1,1]') s;
SELECT l, c.* FROM unnest(ARRAY['LIMIT 0', 'LIMIT 1', 'LIMIT 10', 'LIMIT 49', 'LIMIT 50', 'LIMIT 51', 'LIMIT 9223372036854775807', 'LIMIT NULL',
	'LIMIT 10 OFFSET 5', 'LIMIT 10 OFFSET 45', 'OFFSET 48', 'OFFSET 1000', 'LIMIT 9223372036854775807 OFFSET 10', 'FETCH FIRST 3 ROWS ONLY']) l,
	compare('SELECT id, e <-> ''[500,400,300]'' FROM items WHERE cat = 3 ORDER BY e <-> ''[500,400,300]'' ' || l) c;
-- the same at the default: recall is not certain, the number of rows is
RESET winnow.recall;
SELECT w, l, n, index_used FROM unnest(ARRAY['true', 'cat = 3', 'note = 4', 'note = 4 AND cat = 4', 'id % 97 = 1', 'cat = 99']) w,
	unnest(ARRAY['LIMIT 5', 'LIMIT 200', '']) l,
	compare('SELECT id, e <-> ''[500,400,300]'' FROM items WHERE ' || w || ' ORDER BY e <-> ''[500,400,300]'' ' || l);
-- where the scan knows how many rows it will be asked for, they come in order
SELECT w, l, n, in_order FROM unnest(ARRAY['true', 'cat = 3', 'cat = 99']) w, unnest(ARRAY['LIMIT 5', 'LIMIT 200', 'LIMIT 20 OFFSET 20']) l,
	compare('SELECT id, e <-> ''[500,400,300]'' FROM items WHERE ' || w || ' ORDER BY e <-> ''[500,400,300]'' ' || l);
SET winnow.recall = 1;
-- two distances: the second decides among equals
SELECT c.* FROM compare($$SELECT id, e <-> '[500,400,300]' FROM items WHERE cat < 9 ORDER BY e <-> '[500,400,300]', e <-> '[1,1,1]' LIMIT 40$$) c;
CREATE TABLE items_tied AS SELECT g AS id, ARRAY[g % 2, g % 5]::real[]::vector(2) AS e FROM generate_series(1, 40) g;
CREATE INDEX items_tied_index ON items_tied USING winnow (e, id) WITH (list_size = 8);
SELECT e, count(*) FROM (SELECT e FROM items_tied ORDER BY e <-> '[0.5,2]', e <-> '[0,4]' LIMIT 16) s GROUP BY e
ORDER BY e <-> '[0.5,2]', e <-> '[0,4]';
SELECT array_agg(id ORDER BY id), d FROM (SELECT id, e <-> '[0.5,2]' AS d FROM items_tied ORDER BY e <-> '[0.5,2]' FETCH FIRST 3 ROWS WITH TIES) s GROUP BY d;
DROP TABLE items_tied;

-- Operators of the query vector: a parameter, a subquery, a join, NULL, other dimensions
PREPARE near(vector, integer, integer) AS SELECT id FROM items WHERE cat = $2 ORDER BY e <-> $1 LIMIT $3;
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE near('[500,400,300]', 3, 4);
EXECUTE near('[500,400,300]', 3, 4);
EXECUTE near('[500,400,300]', 3, 0);
EXECUTE near('[500,400,300]', NULL, 4);
-- no vector to be near to: any of the rows will do
CREATE TEMPORARY TABLE any_rows AS EXECUTE near(NULL, 3, 7);
SELECT count(*), count(DISTINCT id), bool_and(id % 20 = 3) FROM any_rows;
EXECUTE near('[1,2]', 3, 4);
SET plan_cache_mode = force_custom_plan;
EXPLAIN (COSTS OFF) EXECUTE near('[500,400,300]', 3, 4);
EXECUTE near('[500,400,300]', 3, 4);
RESET plan_cache_mode;
DEALLOCATE near;
SELECT c.* FROM compare('SELECT id, e <-> (SELECT e FROM items WHERE id = 7) FROM items WHERE cat = (SELECT 4) ORDER BY 2 LIMIT 4') c;
SELECT c.* FROM compare('SELECT id, e <-> (SELECT vector ''[5,5,5]'') FROM items WHERE cat = (SELECT 3) ORDER BY 2 LIMIT 4') c;
SELECT count(*), count(d) FROM (SELECT id, e <-> (SELECT NULL::vector) AS d FROM items ORDER BY e <-> (SELECT NULL::vector)) s;
SELECT count(*) FROM (SELECT id FROM items WHERE cat = (SELECT NULL::integer) ORDER BY e <-> '[1,1,1]') s;
SELECT count(*) FROM (SELECT id FROM items WHERE cat = ANY ((SELECT NULL::integer[])::integer[]) ORDER BY e <-> '[1,1,1]') s;
SELECT count(*) FROM (SELECT id FROM items WHERE cat = ANY ((SELECT '{}'::integer[])::integer[]) ORDER BY e <-> '[1,1,1]') s;
SELECT count(*) FROM (SELECT id FROM items WHERE tags && (SELECT NULL::text[]) ORDER BY e <-> '[1,1,1]') s;

-- A scan for every row of another table
EXPLAIN (COSTS OFF) SELECT q.n, s.id FROM (VALUES (1, vector '[1,2,3]', 3), (2, '[900,900,900]', 4)) q(n, v, c)
CROSS JOIN LATERAL (SELECT id FROM items WHERE cat = q.c ORDER BY e <-> q.v LIMIT 2) s;
SELECT q.n, s.id, s.cat FROM (VALUES (1, vector '[1,2,3]', 3), (2, '[900,900,900]', 4), (3, NULL, 5), (4, '[1,2,3]', NULL), (5, '[1,2,3]', 3)) q(n, v, c)
CROSS JOIN LATERAL (SELECT id, cat FROM items WHERE cat = q.c ORDER BY e <-> q.v LIMIT 2) s WHERE q.v IS NOT NULL;
SELECT i.id, (SELECT array_agg(round(d::numeric, 2) ORDER BY d) FROM (SELECT e <-> i.e AS d FROM items WHERE note = i.note ORDER BY e <-> i.e LIMIT 3) s) AS like_it
FROM (SELECT * FROM items ORDER BY e <-> '[500,400,300]' LIMIT 3) i;

-- Cursors
BEGIN;
DECLARE forward CURSOR FOR SELECT id, round((e <-> '[500,400,300]')::numeric, 3) FROM items WHERE cat = 3 ORDER BY e <-> '[500,400,300]';
FETCH 3 FROM forward;
FETCH FORWARD 2 FROM forward;
MOVE 40 FROM forward;
FETCH ALL FROM forward;
FETCH NEXT FROM forward;
FETCH BACKWARD 1 FROM forward;
ROLLBACK;
BEGIN;
DECLARE scrolling SCROLL CURSOR WITH HOLD FOR SELECT id FROM items WHERE cat = 3 ORDER BY e <-> '[500,400,300]';
FETCH 3 FROM scrolling;
FETCH BACKWARD 2 FROM scrolling;
FETCH LAST FROM scrolling;
COMMIT;
DELETE FROM items WHERE cat = 3;
FETCH ABSOLUTE 2 FROM scrolling;
FETCH ABSOLUTE 50 FROM scrolling;
CLOSE scrolling;

-- What a transaction sees of its own changes
BEGIN;
INSERT INTO items (id, e, cat) SELECT g, '[500,400,300]', 3 FROM generate_series(2001, 2005) g;
UPDATE items SET cat = 3 WHERE id IN (1, 2);
UPDATE items SET note = 77 WHERE id = 2004;
UPDATE items SET e = '[500,400,301]' WHERE id = 2002;
DELETE FROM items WHERE id = 2003;
SELECT * FROM (SELECT id, cat, note, e <-> '[500,400,300]' AS d FROM items WHERE cat = 3 ORDER BY e <-> '[500,400,300]') s ORDER BY d, id;
ROLLBACK;
SELECT count(*) FROM (SELECT id FROM items WHERE cat = 3 ORDER BY e <-> '[500,400,300]') s;
VACUUM (INDEX_CLEANUP ON) items;
SELECT c.* FROM compare('SELECT id, e <-> ''[500,400,300]'' FROM items ORDER BY e <-> ''[500,400,300]''') c;

-- In PL/pgSQL, where plans are kept
CREATE FUNCTION nearest(q vector, c integer, k integer) RETURNS SETOF integer LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT id FROM items WHERE cat = c ORDER BY e <-> q LIMIT k;
END $$;
SELECT g, array(SELECT nearest('[500,400,300]', g, 3)) FROM generate_series(1, 8) g;
DROP FUNCTION nearest(vector, integer, integer);

-- Zero vectors have no direction: their cosine distance is NaN, which sorts last
CREATE TABLE items_zero (id integer, e vector(2));
INSERT INTO items_zero SELECT g, ARRAY[g % 5 - 2, g % 4 - 1]::real[]::vector FROM generate_series(1, 40) g;
INSERT INTO items_zero VALUES (41, NULL);
CREATE INDEX items_zero_cosine ON items_zero USING winnow (e vector_cosine_ops) WITH (list_size = 8);
INSERT INTO items_zero SELECT 100 + id, e FROM items_zero;
SELECT n, same_rows, same_distances FROM compare('SELECT id, e <=> ''[1,1]'' FROM items_zero WHERE e IS NOT NULL ORDER BY e <=> ''[1,1]''');
SELECT d, count(*) FROM (SELECT round((e <=> '[1,1]')::numeric, 3) AS d FROM items_zero ORDER BY e <=> '[1,1]') s GROUP BY d ORDER BY d;
SELECT array_agg(id ORDER BY id), d FROM (SELECT id, e <=> '[1,1]' AS d FROM items_zero ORDER BY e <=> '[1,1]' OFFSET 76) s GROUP BY d;
SELECT count(*), bool_and(d = 'NaN') FROM (SELECT id, e <=> '[0,0]' AS d FROM items_zero ORDER BY e <=> '[0,0]') s;
SELECT count(*), bool_and(d = 'NaN') FROM (SELECT id, e <=> '[0,0]' AS d FROM items_zero ORDER BY e <=> '[0,0]' LIMIT 5) s;
DROP INDEX items_zero_cosine;
CREATE INDEX items_zero_ip ON items_zero USING winnow (e vector_ip_ops) WITH (list_size = 8);
SELECT n, same_rows, same_distances FROM compare('SELECT id, e <#> ''[1,1]'' FROM items_zero WHERE e IS NOT NULL ORDER BY e <#> ''[1,1]''');
SELECT n, same_rows, same_distances FROM compare('SELECT id, e <#> ''[0,0]'' FROM items_zero WHERE e IS NOT NULL ORDER BY e <#> ''[0,0]''');
DROP TABLE items_zero;

-- Settings
SHOW winnow.recall;
SET winnow.recall = 0;
SET winnow.recall = 1.01;
SET winnow.simd = 'none';
SET winnow.nosuch = 1;
SET winnow.simd = 'scalar';
SELECT winnow_simd();
SELECT c.* FROM compare('SELECT id, e <-> ''[500,400,300]'' FROM items WHERE cat < 9 ORDER BY e <-> ''[500,400,300]'' LIMIT 20') c;
RESET winnow.simd;
RESET winnow.recall;

-- What a scan did
SELECT count(*) FROM (SELECT id FROM items WHERE cat = 5 ORDER BY e <-> '[500,400,300]' LIMIT 10) s;
SELECT counter, value > 0 AS some FROM winnow_last_scan()
WHERE counter IN ('searches', 'inner_nodes', 'lists_probed', 'rows_tested', 'rows_passed', 'codes_estimated', 'reranked', 'returned');
SELECT value FROM winnow_last_scan() WHERE counter IN ('searches', 'returned');
-- nothing can match: nothing is read
SELECT count(*) FROM (SELECT id FROM items WHERE cat > 5 AND cat < 3 ORDER BY e <-> '[500,400,300]' LIMIT 10) s;
SELECT sum(value) FROM winnow_last_scan() WHERE counter IN ('inner_nodes', 'lists_probed', 'rows_tested', 'reranked', 'returned');
-- keys prune lists
SELECT count(*) FROM (SELECT id FROM items WHERE made = '2030-01-01' ORDER BY e <-> '[500,400,300]' LIMIT 10) s;
SELECT counter, value FROM winnow_last_scan() WHERE counter IN ('lists_probed', 'returned');
SELECT pg_stat_force_next_flush();
SELECT idx_scan > 0 AS scans, idx_tup_read > 0 AS read, idx_tup_fetch > 0 AS fetched FROM pg_stat_user_indexes WHERE indexrelname = 'items_index';

DROP TABLE items;
DROP FUNCTION compare(text);
