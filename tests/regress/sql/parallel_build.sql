--
-- CREATE INDEX with parallel workers
--
SET client_min_messages = warning;
SET maintenance_work_mem = '64MB';

CREATE TABLE items (id integer, kind text, e vector(4)) WITH (parallel_workers = 2);
INSERT INTO items SELECT g, 'kind ' || g % 5, ARRAY[g % 13, g % 57 * 0.5, g % 101 * 0.2, sin(g)]::real[]::vector
	FROM generate_series(1, 6000) g;
INSERT INTO items SELECT g, 'none', NULL FROM generate_series(6001, 6100) g;
INSERT INTO items SELECT g, 'same', '[1,1,1,1]' FROM generate_series(6101, 7000) g;
ANALYZE items;

-- What the index looks like, and what searches do in it
CREATE FUNCTION shape(name regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text := '';
	query record;
	found numeric[];
BEGIN
	PERFORM winnow_check(name, true);
	SELECT i.levels || ' levels, ' || i.inner_nodes || ' inner nodes, ' || i.lists || ' lists, ' || i.rows || ' rows, '
		|| i.smallest_list || ' to ' || i.largest_list || ' per list, ' || i.pages || ' pages'
		INTO answer FROM winnow_index_info(name) i;
	FOR query IN SELECT * FROM (VALUES ('kind = ''kind 1'''), ('kind = ''same'''), ('true')) f(condition),
		(VALUES ('[1,1,1,1]'), ('[3,20,2,0]'), ('[12,0,18,1]')) q(vector) LOOP
		EXECUTE format('SELECT array_agg(round(d::numeric, 5) ORDER BY d) FROM (SELECT e <-> %L AS d FROM items WHERE %s ORDER BY d LIMIT 10) f',
			query.vector, query.condition) INTO found;
		SELECT answer || E'\n' || found::text || string_agg(' ' || s.value || ' ' || s.counter, ',' ORDER BY s.counter)
			INTO answer FROM winnow_last_scan() s;
	END LOOP;
	RETURN answer;
END $$;

SET enable_seqscan = off;
CREATE TABLE shapes (workers integer, what text, shape text);
CREATE PROCEDURE build(workers integer, what text, command text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('max_parallel_maintenance_workers', workers::text, true);
	EXECUTE command;
	INSERT INTO shapes VALUES (workers, what, shape('items_index'));
	DROP INDEX items_index;
END $$;

DO $$
DECLARE
	workers integer;
	command record;
BEGIN
	FOREACH workers IN ARRAY ARRAY[0, 1, 2] LOOP
		FOR command IN SELECT * FROM (VALUES
			('plain', 'CREATE INDEX items_index ON items USING winnow (e vector_l2_ops, kind) WITH (list_size = 8)'),
			('large lists', 'CREATE INDEX items_index ON items USING winnow (kind, e vector_l2_ops) WITH (list_size = 200)'),
			('partial', 'CREATE INDEX items_index ON items USING winnow (e vector_l2_ops, kind) WITH (list_size = 16) WHERE id > 0')
			) c(what, command) LOOP
			CALL build(workers, command.what, command.command);
		END LOOP;
	END LOOP;
END $$;
SELECT what, count(*) AS builds, count(DISTINCT shape) AS shapes FROM shapes GROUP BY what ORDER BY what;

-- REINDEX, rolled back and not
CREATE INDEX items_index ON items USING winnow (e vector_l2_ops, kind) WITH (list_size = 8);
SET max_parallel_maintenance_workers = 2;
BEGIN;
REINDEX INDEX items_index;
SAVEPOINT s;
REINDEX INDEX items_index;
ROLLBACK TO s;
SELECT winnow_check('items_index', true);
ROLLBACK;
REINDEX INDEX CONCURRENTLY items_index;
SELECT winnow_check('items_index', true);
SELECT count(DISTINCT shape) AS shapes FROM (SELECT shape FROM shapes WHERE what = 'plain' UNION SELECT shape('items_index')) s;

DROP TABLE items, shapes;
DROP PROCEDURE build;
DROP FUNCTION shape;
