--
-- The type vector: text, binary, type modifier, storage
--

-- Text: spaces are ignored, numbers may be written in any decimal way
SELECT '[1,2,3]'::vector;
SELECT '[-1.5]'::vector;
SELECT E' \t[ 1 ,\n2\r, 3\x0b\f]  '::vector;
SELECT '[+1,-2,.5,1.,-.25,007]'::vector;
SELECT '[1e3,1E3,1e+3,1.5e-3,-2E-03]'::vector;

-- An element becomes the nearest float and is written with the fewest digits
-- that lead back to it
SELECT '[0.1,0.3333333333333333,3.14159265358979,16777217,16777219]'::vector;
SELECT '[1e6,1e15,1e16,123456.7,0.0001,0.00001]'::vector;
SELECT '[3.4028235e38,-3.4028235e38,1.1754944e-38,1e-45]'::vector;
SELECT '[1.00000005960464477539062499,1.000000059604644775390625,1.00000005960464477539062501]'::vector;
-- The double nearest to each of these lies half-way between two floats, and says not which is nearer
SELECT '[4.537457227706909,6.606372117996216]'::vector;
SELECT '[0,-0,0e99999999999,0.000e-5]'::vector;

-- Too small for a float: zero, with the sign kept
SELECT '[1e-46,-1e-46,1e-999999999999]'::vector;

-- More digits than any integer holds, and powers of ten that cancel each other
SELECT ('[0.' || repeat('0', 100005) || '1e100006,' || repeat('1', 1000) || 'e-999]')::vector;
SELECT ('[' || repeat('0', 1000) || '1.' || repeat('0', 1000) || '1]')::vector;
SELECT ('[' || repeat('1', 30) || 'e-29,0.' || repeat('0', 100) || '1e101]')::vector;

-- Every float survives being written and read
SELECT count(*) AS floats, count(*) FILTER (WHERE v::text::vector = v) AS survived
FROM (SELECT ARRAY[(sign * (1 + i / 977.0) * 10.0 ^ e)::float4]::vector AS v
	  FROM generate_series(0, 976) i, generate_series(-37, 37, 5) e, (VALUES (1), (-1)) AS s(sign)) AS f;

-- Binary: int16 dimensions, int16 zero, float4 elements, big-endian
SELECT vector_send('[1,-2,0.5]'::vector);
SELECT vector_send('[-0]'::vector);

-- In memory: 4 bytes of varlena header, 4 bytes of header, 4 bytes per element
SELECT n, pg_column_size(array_fill(1, ARRAY[n])::vector) AS bytes
FROM (VALUES (1), (384), (16000)) AS s(n);

-- The type modifier is the number of dimensions
SELECT '[1,2,3]'::vector(3), '[1,2,3]'::vector(3)::vector;
SELECT format_type('vector'::regtype, 3), format_type('vector'::regtype, -1);
CREATE TABLE typed (v vector(3), w vector(16000), free vector, many vector(2)[]);
SELECT attname, format_type(atttypid, atttypmod), attstorage
FROM pg_attribute WHERE attrelid = 'typed'::regclass AND attnum > 0 ORDER BY attnum;
INSERT INTO typed (v, free) VALUES ('[1,2,3]', '[1]'), ('[4,5,6]', '[1,2,3,4]'), (NULL, NULL);
INSERT INTO typed (many) VALUES ('{"[1,2]","[3,4]"}'), (ARRAY['[5,6]'::vector]);
SELECT v, free, many, many[1] FROM typed;
INSERT INTO typed (v) VALUES ('[1,2]');
INSERT INTO typed (v) SELECT free FROM typed WHERE vector_dims(free) = 4;
INSERT INTO typed (v) SELECT '[1,2,3,4]'::vector;
INSERT INTO typed (many) VALUES ('{"[1,2]","[3]"}');
UPDATE typed SET v = free;
ALTER TABLE typed ALTER free TYPE vector(4);
DROP TABLE typed;

-- 16,000 dimensions, stored out of line, uncompressed and without loss
CREATE TABLE long (id int, v vector(16000));
INSERT INTO long SELECT n, array_agg(i / n::float4 ORDER BY i)::vector
FROM generate_series(1, 3) n, generate_series(1, 16000) i GROUP BY n;
SELECT id, vector_dims(v), pg_column_size(v) FROM long ORDER BY id;
SELECT id, v = (SELECT array_agg(i / id::float4 ORDER BY i)::vector FROM generate_series(1, 16000) i) AS intact,
	v::text::vector = v AS survives_text, l2_distance(v, v), subvector(v, 15999, 2)
FROM long ORDER BY id;
SELECT vector_dims((v)) FROM (SELECT v FROM long UNION ALL SELECT '[1]') u ORDER BY 1;
DROP TABLE long;

-- Compressed by request, it still reads well
CREATE TABLE compressed (v vector);
ALTER TABLE compressed ALTER v SET STORAGE main;
INSERT INTO compressed SELECT array_fill(1, ARRAY[16000])::vector;
SELECT pg_column_size(v) < 16000 AS is_compressed, vector_dims(v), inner_product(v, v) FROM compressed;
DROP TABLE compressed;

-- COPY, domains and composite types
CREATE TABLE copied (id int, v vector(3));
COPY copied FROM stdin;
1	[1,2,3]
2	\N
3	 [ 4 , 5 , 6 ] 
\.
COPY copied FROM stdin;
4	[1,2]
\.
COPY copied FROM stdin;
5	[1,2,x]
\.
COPY copied TO stdout;
DROP TABLE copied;
CREATE DOMAIN unit AS vector(2) CHECK (abs(vector_norm(VALUE) - 1) < 1e-6);
SELECT '[0.6,0.8]'::unit;
SELECT '[1,1]'::unit;
SELECT '[1]'::unit;
DROP DOMAIN unit;
CREATE TYPE pair AS (name text, v vector(2));
SELECT '(a,"[1,2]")'::pair, ('(a,"[1,2]")'::pair).v <-> '[1,2]';
DROP TYPE pair;

-- Polymorphic and untyped uses resolve
SELECT pg_typeof(coalesce(NULL, '[1,2]'::vector)), pg_typeof(ARRAY['[1]'::vector]), pg_typeof(nullif('[1]'::vector, '[2]'));
PREPARE nearest(vector) AS SELECT $1 <-> '[0,0]';
EXECUTE nearest('[3,4]');
DEALLOCATE nearest;
SELECT to_json('[1,2.5]'::vector), jsonb_build_object('v', '[1,2.5]'::vector);

-- Statistics of a column of vectors
CREATE TABLE analysed AS SELECT ARRAY[i, i % 3]::vector AS v FROM generate_series(1, 300) i;
ANALYZE analysed;
SELECT n_distinct, null_frac FROM pg_stats WHERE tablename = 'analysed';
DROP TABLE analysed;

-- Every object of the extension says what it is for (array types come by themselves)
SELECT pg_describe_object(d.classid, d.objid, 0) AS without_comment
FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'winnow' AND d.deptype = 'e' AND obj_description(d.objid, d.classid::regclass::name) IS NULL
	AND NOT EXISTS (SELECT FROM pg_type t WHERE d.classid = 'pg_type'::regclass AND t.oid = d.objid AND t.typcategory = 'A')
ORDER BY without_comment;
