--
-- What the type vector refuses, and how it says so
--

-- Malformed text: what was expected, where, and what was found
SELECT ''::vector;
SELECT '   '::vector;
SELECT '1,2,3'::vector;
SELECT '{1,2,3}'::vector;
SELECT '['::vector;
SELECT '[1'::vector;
SELECT '[1,'::vector;
SELECT '[1,]'::vector;
SELECT '[,1]'::vector;
SELECT '[1,,2]'::vector;
SELECT '[1 2]'::vector;
SELECT '[1;2]'::vector;
SELECT '[1,2]]'::vector;
SELECT '[1,2] and more'::vector;
SELECT '[[1,2]]'::vector;
SELECT '[1,a]'::vector;
SELECT '[1,-]'::vector;
SELECT '[1,.]'::vector;
SELECT '[1,1e]'::vector;
SELECT '[0x10]'::vector;
SELECT '[1_000]'::vector;
SELECT '[null]'::vector;
SELECT '[é,1]'::vector;
SELECT '[1,2é]'::vector;
SELECT '[ 1 , "2" ]'::vector;
SELECT 'écrit en français, bien trop long pour être répété dans un message'::vector;

-- No elements
SELECT '[]'::vector;
SELECT ' [ ] '::vector;

-- Not finite, out of range
SELECT '[NaN]'::vector;
SELECT '[1,nan]'::vector;
SELECT '[1,Infinity]'::vector;
SELECT '[1,-inf,2]'::vector;
SELECT '[1, 4e38 ]'::vector;
SELECT '[-1e999999999999]'::vector;
SELECT ('[' || repeat('9', 50) || ']')::vector;
SELECT '[1e99999999999999999999999999999999999999999999]'::vector;

-- Dimensions
SELECT '[1,2]'::vector(3);
SELECT '[1,2]'::vector::vector(3);
SELECT ('[' || repeat('1,', 16000) || '1]')::vector;
SELECT repeat('[', 100000)::vector;
SELECT ('[' || repeat(',', 100000))::vector;
SELECT '[1]'::vector(0);
SELECT '[1]'::vector(-1);
SELECT '[1]'::vector(16001);
SELECT '[1]'::vector(99999999999);
SELECT '[1]'::vector(1, 2);
SELECT '[1]'::vector('a');

-- Operands that do not fit each other
SELECT '[1,2]'::vector <-> '[1,2,3]';
SELECT '[1,2]'::vector <#> '[1,2,3]';
SELECT '[1,2]'::vector <=> '[1,2,3]';
SELECT '[1,2]'::vector <+> '[1,2,3]';
SELECT inner_product('[1,2]', '[1]');
SELECT '[1,2]'::vector + '[1]';
SELECT '[1,2]'::vector - '[1]';
SELECT '[1,2]'::vector * '[1]';

-- Results that are no vectors
SELECT '[1,3e38]'::vector + '[1,3e38]';
SELECT '[1,3e38]'::vector - '[1,-3e38]';
SELECT '[1e20,1]'::vector * '[-1e20,1]';
SELECT array_fill(0, ARRAY[15999])::vector || '[1,2]';
SELECT subvector('[1,2,3]', 4, 1);
SELECT subvector('[1,2,3]', 1, 0);
SELECT subvector('[1,2,3]', -5, 5);
SELECT subvector('[1,2,3]', 2147483647, 2147483647);
SELECT subvector('[1,2,3]', 1, -2147483648);

-- Each with its SQLSTATE
CREATE FUNCTION refusal(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
SELECT s AS statement, refusal('SELECT ' || s) FROM (VALUES
	($$'[1'::vector$$), ($$'[]'::vector$$), ($$'[NaN]'::vector$$), ($$'[inf]'::vector$$), ($$'[1e39]'::vector$$), ($$'[1]'::vector(2)$$),
	($$('[' || repeat('1,', 16000) || '1]')::vector$$), ($$'[1]'::vector(0)$$), ($$'[1]'::vector + '[1,2]'$$), ($$'[3e38]'::vector + '[3e38]'$$),
	($$'[1]'::vector <-> '[1,2]'$$), ($$array_fill(0, ARRAY[16000])::vector || '[1]'$$), ($$subvector('[1]', 2, 1)$$),
	($$'{1,NULL}'::int[]::vector$$), ($$'{{1}}'::int[]::vector$$), ($$'{1e39}'::float8[]::vector$$), ($$vector_avg('{}')$$)) t(s);
DROP FUNCTION refusal(text);

-- pgvector defines a type of the same name: one schema cannot hold both
SET client_min_messages = error;
BEGIN;
DROP EXTENSION winnow CASCADE;
CREATE SCHEMA taken;
CREATE DOMAIN taken.vector AS text;
CREATE SCHEMA elsewhere;
SAVEPOINT before;
\set SHOW_CONTEXT never
CREATE EXTENSION winnow SCHEMA taken;
\set SHOW_CONTEXT errors
ROLLBACK TO before;
CREATE EXTENSION winnow SCHEMA elsewhere;
SELECT '[3,4]'::elsewhere.vector OPERATOR(elsewhere.<->) '[0,0]';
SELECT elsewhere.avg(v::elsewhere.vector) FROM (VALUES ('[1,2]'), ('[3,4]')) t(v);
ALTER EXTENSION winnow SET SCHEMA public;
SELECT '[3,4]'::vector <-> '[0,0]';
ROLLBACK;
RESET client_min_messages;
SELECT '[3,4]'::vector <-> '[0,0]';
