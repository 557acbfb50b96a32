--
-- Distances, arithmetic, comparisons, functions
--

-- Distances. Small integers: every order of summation gives the same result.
SELECT '[0,0]'::vector <-> '[3,4]' AS l2, '[1,2]'::vector <#> '[3,4]' AS negative_ip,
	'[1,2]'::vector <=> '[2,4]' AS cosine, '[0,0]'::vector <+> '[3,-4]' AS l1;
SELECT l2_distance('[0,0]', '[3,4]'), inner_product('[1,2]', '[3,4]'), cosine_distance('[1,2]', '[-1,-2]'),
	l1_distance('[0,0]', '[3,-4]'), vector_negative_inner_product('[1,2]', '[3,4]');
SELECT '[1,0]'::vector <=> '[0,2]' AS right_angle, '[1,1]'::vector <=> '[1,1]' AS same, '[1,1]'::vector <=> '[-1,-1]' AS opposite;
SELECT NULL::vector <-> '[1]' AS null_left, '[1]'::vector <=> NULL AS null_right;

-- No negative zero
SELECT '[1,0]'::vector <#> '[0,1]' AS negative_ip, inner_product('[1,0]', '[0,1]'), '[0]'::vector <-> '[-0]' AS l2;

-- Any length: compared to the same sums made by SQL
SELECT count(*) AS lengths, bool_and(l2 = sqrt(sq)) AS l2, bool_and(ip = prod AND neg = -prod) AS ip, bool_and(l1 = ab) AS l1,
	bool_and(abs(cos - (1 - prod / sqrt(aa * bb))) < 1e-6) AS cosine
FROM (
	SELECT n, a <-> b AS l2, a <#> b AS neg, inner_product(a, b) AS ip, a <+> b AS l1, a <=> b AS cos, sq, prod, ab, aa, bb
	FROM (
		SELECT n, array_agg(x ORDER BY i)::vector AS a, array_agg(y ORDER BY i)::vector AS b,
			sum((x - y) ^ 2) AS sq, sum(x * y) AS prod, sum(abs(x - y)) AS ab, sum(x * x) AS aa, sum(y * y) AS bb
		FROM generate_series(1, 200) n, generate_series(1, n) i,
			LATERAL (SELECT (i * 7 % 11 - 5)::float8 AS x, (i * 5 % 13 - 6)::float8 AS y) e
		GROUP BY n) AS v
	) AS d
WHERE aa > 0 AND bb > 0;

-- Beyond what a float can square or add up
SELECT '[3e38]'::vector <-> '[-3e38]' AS l2, '[3e38,3e38]'::vector <+> '[-3e38,-3e38]' AS l1;
SELECT '[3e38,3e38]'::vector <#> '[3e38,3e38]' AS negative_ip, '[3e38,3e38]'::vector <#> '[3e38,-3e38]' AS cancelled;
SELECT '[3e38,0]'::vector <=> '[3e38,0]' AS same, '[3e38,3e38]'::vector <=> '[-3e38,-3e38]' AS opposite, '[3e38,0]'::vector <=> '[0,1e-40]' AS right_angle;
SELECT '[1e-30,0]'::vector <=> '[1e-30,0]' AS same, '[1e-45]'::vector <=> '[-1]' AS opposite;
SELECT round(('[4e-30,0]'::vector <-> '[0,3e-30]')::numeric, 35) AS l2;

-- A zero vector has no direction: NaN, which sorts last
SELECT '[0,0]'::vector <=> '[1,1]' AS zero_left, '[1,1]'::vector <=> '[-0,0]' AS zero_right, '[0]'::vector <=> '[0]' AS both;
SELECT v FROM (VALUES ('[0,0]'::vector), ('[1,0]'), ('[-1,0]'), ('[1,1]')) t(v) ORDER BY v <=> '[1,0]';

-- Cosine stays within [0, 2] whatever the rounding
SELECT min(v <=> v) >= 0 AS lowest, max(v <=> w) <= 2 AS highest
FROM (SELECT ARRAY[i * 0.1, i * 0.7, 1.0 / i]::vector AS v, ARRAY[i * -0.3, i * -2.1, -3.0 / i]::vector AS w
	  FROM generate_series(1, 1000) i) AS s;

-- Arithmetic
SELECT '[1,2]'::vector + '[10,20]' AS sum, '[1,2]'::vector - '[10,20]' AS difference, '[1,2]'::vector * '[10,20]' AS product;
SELECT '[1,2]'::vector || '[3]' AS joined, vector_dims(array_fill(0, ARRAY[15999])::vector || '[1]') AS longest;
SELECT '[1e-30]'::vector * '[1e-30]' AS underflow;
SELECT vector_add('[1]', '[2]'), vector_sub('[1]', '[2]'), vector_mul('[1]', '[2]'), vector_concat('[1]', '[2]');

-- Comparisons: by the first element that differs, then by length
SELECT a, b, a < b AS lt, a <= b AS le, a = b AS eq, a <> b AS ne, a >= b AS ge, a > b AS gt, vector_cmp(a, b) AS cmp
FROM (VALUES ('[1,2]'::vector, '[1,2]'::vector), ('[1,2]', '[1,3]'), ('[2]', '[1,9]'), ('[1]', '[1,-5]'), ('[1,2,0]', '[1,2]'), ('[0]', '[-0]')) t(a, b);
SELECT v FROM (VALUES ('[2]'::vector), ('[1,1]'), ('[1]'), (NULL), ('[-1,5]'), ('[1,0,0]')) t(v) ORDER BY v DESC NULLS LAST;
SELECT v, count(*) FROM (VALUES ('[1,2]'::vector), ('[1,2]'), ('[1,3]')) t(v) GROUP BY v ORDER BY v;
SELECT count(DISTINCT v) FROM (VALUES ('[1,2]'::vector), ('[1,2]'), ('[1,3]')) t(v);
SELECT '[1]'::vector IN ('[1]', '[2]') AS found, '[1]'::vector = ANY ('{"[3]","[1]"}'::vector[]) AS any_of;

-- A B-tree: uniqueness, order, merge join
CREATE TABLE btree (v vector(2) PRIMARY KEY);
INSERT INTO btree SELECT ARRAY[i % 10, i / 10]::vector FROM generate_series(0, 99) i;
INSERT INTO btree VALUES ('[3,4]');
INSERT INTO btree VALUES ('[3,4]') ON CONFLICT DO NOTHING;
CREATE TABLE other (LIKE btree INCLUDING INDEXES);
INSERT INTO other SELECT v FROM btree WHERE v >= '[5,0]';
ANALYZE btree, other;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT v FROM btree WHERE v >= '[9,8]' ORDER BY v;
SELECT v FROM btree WHERE v >= '[9,8]' ORDER BY v;
SELECT v FROM btree WHERE v < '[0,2]' ORDER BY v DESC;
SET enable_nestloop = off;
SET enable_sort = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM btree JOIN other USING (v);
SELECT count(*) FROM btree JOIN other USING (v);
RESET enable_nestloop;
RESET enable_sort;
RESET enable_seqscan;
RESET enable_bitmapscan;
DROP TABLE btree, other;

-- Functions
SELECT vector_dims('[1,2,3]'), vector_norm('[3,4]'), vector_norm('[0,0]'), vector_norm('[3e37,4e37]') > 4.9e37 AS large;
SELECT l2_normalize('[3,4]'), l2_normalize('[3e37,4e37]'), l2_normalize('[3e-44,-4e-44]') <-> '[0.6,-0.8]' < 0.02 AS tiny, l2_normalize('[0,0]');
SELECT binary_quantize('[1,-1,0,0.5,-0,3,1,1,-1]'), binary_quantize('[1]'), length(binary_quantize(array_fill(1, ARRAY[16000])::vector));
SELECT subvector('[1,2,3,4,5]', 1, 2) AS head, subvector('[1,2,3,4,5]', 4, 2) AS tail, subvector('[1,2,3,4,5]', 3, 100) AS cut,
	subvector('[1,2,3,4,5]', -1, 4) AS from_before, subvector('[1,2,3]', 2, 2147483647) AS rest;

-- Planner: distances say what they cost; only what cannot fail is leakproof
SELECT p.oid::regprocedure, procost, prosupport <> 0 AS prosupport, proleakproof, provolatile, proparallel, proisstrict
FROM pg_proc p
WHERE 'vector'::regtype = ANY (proargtypes) AND prokind = 'f' AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'c')
	AND (procost <> 1 OR prosupport <> 0 OR proleakproof OR provolatile <> 'i' OR proparallel <> 's' OR NOT proisstrict)
	AND proname ~ '^(vector|l1|l2|inner|cosine|binary|sub|array)'
ORDER BY p.oid::regprocedure::text COLLATE "C";
