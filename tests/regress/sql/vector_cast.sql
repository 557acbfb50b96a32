--
-- Casts between vector and arrays of numbers
--

-- From arrays
SELECT ARRAY[1,2,3]::vector, ARRAY[1.5,-2]::real[]::vector, ARRAY[1.5,-2]::double precision[]::vector, ARRAY[1.5,-2]::numeric[]::vector;
SELECT ARRAY[1,2,3]::vector(3), '{1,2,3}'::real[]::vector(3);
SELECT ARRAY[2147483647, -2147483648, 16777217]::vector AS rounded;
SELECT ARRAY[0.1, 1e-300, 3.4028234e38]::double precision[]::vector AS rounded;
SELECT ARRAY[0.1, 1e-300, 3.4028234e38, 12345678901234567890.123456789]::numeric[]::vector AS rounded;
-- The float nearest to the decimal, also where the nearest double lies half-way between two floats
SELECT ARRAY[1.00000005960464477539062501]::numeric[]::vector = '[1.00000005960464477539062501]' AS same_as_text;
SELECT '[0:2]={1,2,3}'::int[]::vector AS any_lower_bound;

-- To arrays
SELECT '[1,2.5,-3]'::vector::real[], '[1,2.5,-3]'::vector::double precision[], '[1,2.5,-3]'::vector::numeric[];
SELECT '[1,2.5,3.5,-0.4]'::vector::integer[] AS rounded;
SELECT '[0.1,1e10,1234567.9,1e-45]'::vector::numeric[] AS exact;
SELECT '[0.1]'::vector::double precision[] AS widened;

-- There and back
SELECT v::real[]::vector = v AS real, v::double precision[]::vector = v AS double, v::numeric[]::vector = v AS numeric
FROM (VALUES ('[0.1,-3.4028235e38,1e-45,16777216,0.33333334]'::vector)) t(v);
SELECT vector_dims(array_fill(1.5, ARRAY[16000])::numeric[]::vector::numeric[]::vector);

-- Which casts need to be written, and which happen by themselves
SELECT castsource::regtype, casttarget::regtype, castcontext
FROM pg_cast WHERE 'vector'::regtype IN (castsource, casttarget)
	AND (castsource IN ('vector'::regtype, 'integer[]'::regtype, 'real[]'::regtype, 'double precision[]'::regtype, 'numeric[]'::regtype)
		AND casttarget IN ('vector'::regtype, 'integer[]'::regtype, 'real[]'::regtype, 'double precision[]'::regtype, 'numeric[]'::regtype))
ORDER BY castsource::regtype::text COLLATE "C", casttarget::regtype::text COLLATE "C";
CREATE TABLE assigned (v vector(2), r real[], d double precision[], n numeric[], i integer[]);
INSERT INTO assigned (v) VALUES (ARRAY[1,2]), (ARRAY[1,2]::real[]), (ARRAY[1,2]::double precision[]), (ARRAY[1.0,2.0]), ('[1,2]');
UPDATE assigned SET r = v, d = v, n = v, i = v;
SELECT DISTINCT v, r, d, n, i FROM assigned;
INSERT INTO assigned (v) VALUES (ARRAY[1,2,3]);
INSERT INTO assigned (v) VALUES ('{1,2}'::text);
DROP TABLE assigned;
SELECT '[1,2]'::vector <-> ARRAY[1,2]::real[];
SELECT array_append('[1,2]'::vector::real[], 3), 2::real = ANY ('[1,2]'::vector::real[]) AS found;

-- Refused
SELECT '{}'::real[]::vector;
SELECT '{{1,2},{3,4}}'::real[]::vector;
SELECT '{1,NULL}'::integer[]::vector;
SELECT '{1,NaN}'::real[]::vector;
SELECT '{1,2,-Infinity}'::double precision[]::vector;
SELECT '{NaN}'::numeric[]::vector;
SELECT '{Infinity}'::numeric[]::vector;
SELECT '{1,1e39}'::double precision[]::vector;
SELECT '{1,-1e39}'::numeric[]::vector;
SELECT '{1e100}'::numeric[]::vector;
SELECT ARRAY[1,2,3]::vector(2);
SELECT array_fill(0, ARRAY[16001])::vector;
SELECT array_fill(0, ARRAY[100000])::numeric[]::vector;
SELECT '[1e10]'::vector::integer[];
