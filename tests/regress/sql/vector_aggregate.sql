--
-- avg(vector), sum(vector)
--

SELECT avg(v), sum(v), count(v) FROM (VALUES ('[1,2,3]'::vector), ('[3,5,7]'), (NULL)) t(v);
SELECT avg(v), sum(v) FROM (VALUES ('[1,2,3]'::vector)) t(v) WHERE false;
SELECT avg(v), sum(v) FROM (VALUES (NULL::vector), (NULL)) t(v);
SELECT g, avg(v), sum(v) FROM (VALUES (1, '[1,2]'::vector), (2, '[9]'), (1, '[3,4]'), (3, NULL)) t(g, v) GROUP BY g ORDER BY g;
SELECT avg(DISTINCT v), sum(v) FILTER (WHERE v > '[2]') FROM (VALUES ('[1]'::vector), ('[1]'), ('[4]')) t(v);

-- Sums are kept in double: what a float would lose is kept
SELECT sum(v), avg(v) FROM (SELECT '[0.1,16777216]'::vector AS v FROM generate_series(1, 100000)) t;
SELECT sum(v) FROM (VALUES ('[1e10]'::vector), ('[1]'), ('[-1e10]')) t(v);
SELECT avg(v) FROM (VALUES ('[3e38]'::vector), ('[3e38]'), ('[3e38]')) t(v);

-- In a window
SELECT id, sum(v) OVER (ORDER BY id), avg(v) OVER (ORDER BY id ROWS 1 PRECEDING)
FROM (VALUES (1, '[1]'::vector), (2, '[2]'), (3, '[4]')) t(id, v);

-- In parallel
CREATE TABLE parallel AS
SELECT i % 2 AS g, ARRAY[i, -i, 1]::vector AS v FROM generate_series(1, 5000) i;
ALTER TABLE parallel SET (parallel_workers = 2);
ANALYZE parallel;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET parallel_leader_participation = off;
EXPLAIN (COSTS OFF) SELECT avg(v), sum(v) FROM parallel;
SELECT avg(v), sum(v) FROM parallel;
SELECT g, avg(v), sum(v) FROM parallel GROUP BY g ORDER BY g;
SELECT avg(v), sum(v) FROM parallel WHERE g = 5;
SELECT avg(v), sum(v) FROM parallel WHERE v = '[7,-7,1]';
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
RESET parallel_leader_participation;
DROP TABLE parallel;

-- The functions behind them, called by hand
SELECT vector_accum('{0}', '[1,2]'), vector_accum('{1,1,2}', '[1,2]');
SELECT vector_combine('{0}', '{0}'), vector_combine('{1,2}', '{0}'), vector_combine('{0}', '{1,2}'), vector_combine('{1,2}', '{3,4}');
SELECT vector_avg('{4,2,8}'), vector_sum('{4,2,8}'), vector_avg('{0}'), vector_sum('{0,0}');
-- They change a state in place only where it is theirs
CREATE TABLE states AS SELECT array_fill(1, ARRAY[20])::double precision[] AS state;
SELECT (vector_accum(state, array_fill(1, ARRAY[19])::vector))[20], (vector_combine(state, state))[20] FROM states;
SELECT state = array_fill(1, ARRAY[20])::double precision[] AS unchanged FROM states;
DROP TABLE states;

-- Refused
SELECT avg(v) FROM (VALUES ('[1]'::vector), ('[1,2]')) t(v);
SELECT sum(v) FROM (VALUES ('[1,3e38]'::vector), ('[1,3e38]')) t(v);
SELECT vector_accum('{}', '[1]');
SELECT vector_accum('{{0}}', '[1]');
SELECT vector_accum('{0,NULL}', '[1]');
SELECT vector_accum(array_fill(0, ARRAY[20000])::double precision[], '[1]');
SELECT vector_combine('{1,2}', '{1,2,3}');
SELECT vector_avg('{3}');
SELECT vector_avg('{NaN,1}');
SELECT vector_sum('{1,Infinity}');
