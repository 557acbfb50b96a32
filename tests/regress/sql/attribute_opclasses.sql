--
-- Attribute columns: operator classes, and filters answered inside the index
--
SET client_min_messages = warning;
SET timezone = 'America/New_York';
SET datestyle = 'ISO';
SET jit = off;

-- Every operator class is sound, and every object has a comment
SELECT opcname, opcintype::regtype, opcdefault, amvalidate(c.oid)
FROM pg_opclass c JOIN pg_am a ON a.oid = c.opcmethod
WHERE a.amname = 'winnow' ORDER BY opcname COLLATE "C";
SELECT count(*) AS without_comment
FROM pg_depend d
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
	AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'winnow')
	AND d.classid IN ('pg_opclass'::regclass, 'pg_opfamily'::regclass, 'pg_proc'::regclass, 'pg_am'::regclass)
	AND obj_description(d.objid, d.classid::regclass::text) IS NULL;

CREATE TYPE mood AS ENUM ('sad', 'happy');
ALTER TYPE mood ADD VALUE 'calm' BEFORE 'happy';
CREATE DOMAIN score AS integer CHECK (VALUE >= -1000);

CREATE TABLE attributes (
	id integer PRIMARY KEY, embedding vector(2),
	flag boolean, i2 smallint, i4 integer, i8 bigint, dom score,
	f4 real, f8 double precision, num numeric,
	day date, at timestamp, atz timestamptz, clock time,
	ident uuid, object oid, feeling mood,
	label text, code varchar(20), label_c text COLLATE "C", fixed char(4), bytes bytea,
	numbers integer[], tags text[], feelings mood[]);
INSERT INTO attributes
SELECT g, ARRAY[g % 23, g % 31]::real[]::vector,
	g % 2 = 0, g % 100 - 50, g * 1000 - 200000, (g - 250) * 10000000000, g % 40 - 20,
	(g - 250) / 8.0, (g - 250) / 7.0::float8, (g - 250) / 4.0,
	date '2024-01-01' + g % 50, timestamp '2024-03-01' + g * interval '1 hour',
	timestamptz '2024-03-01' + g * interval '1 hour', time '00:00' + g * interval '2 minutes',
	(lpad(to_hex(g / 2), 8, '0') || repeat(to_hex(g % 2), 24))::uuid, (4294967295 - g * 8589934::bigint)::oid,
	(ARRAY['sad', 'calm', 'happy'])[g % 3 + 1]::mood,
	'label ' || g % 9, 'code' || g % 70, 'label_' || chr(97 + g % 20) || g % 5, chr(97 + g % 4),
	decode(lpad(to_hex(g % 60 * 4), 2, '0') || repeat('00', g % 3), 'hex'),
	ARRAY[g % 30, g % 7], ARRAY['t' || g % 12, 'u' || g % 5], ARRAY[(ARRAY['sad', 'calm', 'happy'])[g % 3 + 1]]::mood[]
FROM generate_series(1, 500) g;
-- Extremes, and NULL everywhere
INSERT INTO attributes (id, embedding) VALUES (501, '[1,1]'), (502, '[2,2]');
INSERT INTO attributes VALUES
	(503, '[3,3]', true, 32767, 2147483647, 9223372036854775807, 2147483647, 'NaN', 'NaN', 'NaN',
	 'infinity', 'infinity', 'infinity', '24:00', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 4294967295,
	 'happy', repeat('long', 1000), '', repeat('z', 3000), '', '', '{}', '{}', '{}'),
	(504, '[4,4]', false, -32768, -2147483648, -9223372036854775808, -1000, '-Infinity', '-Infinity', '-1e1000',
	 '-infinity', '-infinity', '-infinity', '00:00', '00000000-0000-0000-0000-000000000000', 0,
	 'sad', '', 'x', '', 'a', '\xffffffffffffffffff', '{NULL}', '{NULL}', '{NULL}'),
	(505, '[5,5]', NULL, 0, 0, 0, 0, '-0', '-0', '1e400', '5874897-12-31', '2024-03-10 02:30', '2024-11-03 01:30-05', '12:00',
	 NULL, NULL, NULL, 'LABEL 1', 'x', 'x', 'a', '\x00', '{1,NULL}', '{t1,NULL}', '{sad,NULL}');

CREATE INDEX attributes_index ON attributes USING winnow (
	flag, i2, i4, i8, dom, embedding vector_l2_ops, f4, f8, num, day, at, atz, clock, ident, object, feeling,
	label, code varchar_ops, label_c, fixed, bytes, numbers, tags, feelings) WITH (list_size = 16);
ANALYZE attributes;

-- The rows that satisfy a condition: how many, is the index used, and are they those of a sequential scan?
CREATE FUNCTION check_condition(condition text, OUT nrows integer, OUT by_index boolean, OUT same boolean)
LANGUAGE plpgsql AS $$
DECLARE
	query text := 'SELECT id FROM attributes WHERE ' || condition;
	ordered text := query || ' ORDER BY embedding <-> ''[7,7]''';
	plan json;
	expected integer[];
	answer integer[];
BEGIN
	SET LOCAL enable_indexscan = off;
	SET LOCAL enable_bitmapscan = off;
	EXECUTE format('SELECT array(%s)', query) INTO expected;
	SET LOCAL enable_indexscan = on;
	SET LOCAL enable_seqscan = off;
	SET LOCAL enable_sort = off;
	EXECUTE 'EXPLAIN (FORMAT JSON) ' || ordered INTO plan;
	EXECUTE format('SELECT array(%s)', ordered) INTO answer;
	nrows := cardinality(expected);
	by_index := plan::text LIKE '%"attributes_index"%';
	same := (SELECT array_agg(i ORDER BY i) FROM unnest(expected) i) IS NOT DISTINCT FROM
			(SELECT array_agg(i ORDER BY i) FROM unnest(answer) i);
END
$$;

SELECT condition, c.*
FROM (VALUES
	('flag'), ('NOT flag'), ('flag IS NULL'), ('flag IS NOT NULL'),
	('i2 = 7'), ('i2 < 100000'), ('i2 >= 32767'), ('i2 < -32768::bigint'), ('i2 > -40000'), ('i2 IN (1, 2, 3, 70000)'),
	('i4 BETWEEN -5000 AND 5000'), ('i4 > 2147483646'), ('i4 < -2147483647'), ('i4 <= 9223372036854775807'),
	('i4 = 5000000000'), ('i4 > 1::smallint'), ('i4 > 100 AND i4 < 50'), ('i4 IS NULL'), ('i4 = NULL'),
	('i8 = 10000000000'), ('i8 < 0'), ('i8 >= 9223372036854775807'), ('i8 <= -9223372036854775808'),
	('dom = 5'), ('dom > 10 AND dom IS NOT NULL'),
	('f4 < 0'), ('f4 = ''NaN'''), ('f4 > 0.1'), ('f4 <= 1e300'), ('f4 < -1e300'), ('f4 = 0'), ('f4 > ''Infinity'''), ('f4 >= 0.125::real'),
	('f8 >= 0 AND f8 < 1'), ('f8 = 0::real'), ('f8 > 1e308'), ('f8 <= ''-Infinity'''),
	('num = 1.250'), ('num < -60'), ('num > 1e300'), ('num = ''NaN'''), ('num >= 1e1000'), ('num BETWEEN 0 AND 1'), ('num IN (0.25, 0.50, 7)')
	) v(condition), check_condition(condition) c;
SELECT condition, c.*
FROM (VALUES
	('day = ''2024-01-10'''), ('day < ''2024-01-10 00:00:01''::timestamp'), ('day < ''2024-01-10 00:00''::timestamp'),
	('day >= ''2024-02-10 00:00-05''::timestamptz'), ('day > ''2024-02-10 00:00-05''::timestamptz'), ('day < ''infinity'''), ('day >= ''294276-12-31''::timestamp'),
	('at >= ''2024-03-10'' AND at < ''2024-03-11'''), ('at < ''2024-03-05''::date'), ('at < ''5874897-12-31''::date'),
	('at < ''2024-03-10 03:00''::timestamptz'), ('at >= ''2024-03-10 03:00''::timestamptz'), ('at = ''infinity''::date'),
	('atz >= ''2024-03-10'' AND atz < ''2024-03-11'''), ('atz < ''2024-03-05''::date'), ('atz > ''2024-11-03 01:00''::timestamp'), ('atz < ''5874897-12-31''::date'),
	('clock >= ''16:00'''), ('clock = ''00:00'' OR clock = ''24:00'''), ('clock < ''00:10'''),
	('ident = ''00000003-1111-1111-1111-111111111111'''), ('ident < ''00000010-1111-1111-1111-111111111111'''), ('ident IS NULL'),
	('object = 4294967295'), ('object > 4000000000'), ('object < 100'),
	('feeling = ''calm'''), ('feeling > ''sad'''), ('feeling < ''happy'''), ('feeling >= ''calm'''), ('feeling IN (''sad'', ''happy'')'),
	('label = ''label 3'''), ('label > ''label 7'''), ('label IN (''label 1'', ''label 2'', ''none'')'), ('label = repeat(''long'', 1000)'),
	('code = ''code12'''), ('code = '''''), ('code < ''code2'''),
	('label_c = ''label_c2'''), ('label_c > ''label_s'''), ('label_c >= ''label_s'' AND label_c < ''label_t'''), ('label_c < ''label_a'''), ('label_c = '''''),
	('fixed = ''a'''), ('fixed = ''b   '''), ('fixed > ''c'''), ('bytes = ''\x00'''), ('bytes > ''\xf0'''), ('bytes < ''\x08'''),
	('numbers @> ''{3}'''), ('numbers && ''{3,4}'''), ('numbers @> ''{3,4,5}'''), ('numbers @> ''{}'''), ('numbers && ''{}'''),
	('numbers && ''{NULL}'''), ('numbers @> ''{NULL}'''), ('numbers IS NULL'),
	('tags && ''{t1,t2}'''), ('tags @> ''{t1,u2}'''), ('feelings @> ''{calm}'''),
	('i2 > 0 AND label = ''label 3'' AND tags && ''{t3,t7}'' AND atz > ''2024-03-05'''),
	('embedding IS NOT NULL AND i2 = 1')
	) v(condition), check_condition(condition) c;

-- Inequality, which the index answers where it decides alone
SELECT condition, c.*
FROM (VALUES
	('flag <> (SELECT true)'), ('i2 <> 7'), ('i2 <> 70000'), ('i2 <> -32768'), ('i2 <> 32767::bigint'), ('i4 <> 5000::smallint'), ('i4 <> -5000000000'),
	('i8 <> -9223372036854775808'), ('i8 <> 9223372036854775807'), ('i8 <> NULL'), ('dom <> 5'),
	('f4 <> 0'), ('f4 <> 0.1::real'), ('f4 <> 0.1'), ('f4 <> ''NaN'''), ('f4 <> 1e300'), ('f8 <> 0::real'), ('f8 <> ''-Infinity'''),
	('day <> ''2024-01-10'''), ('day <> ''2024-01-10 00:00''::timestamp'), ('day <> ''2024-01-10 12:00''::timestamp'), ('day <> ''2024-01-10''::timestamptz'),
	('at <> ''2024-03-05''::date'), ('at <> ''infinity'''), ('at <> ''2024-03-05''::timestamptz'), ('atz <> ''2024-03-05''::date'), ('atz <> ''2024-03-05 01:00''::timestamp'),
	('clock <> ''16:00'''), ('object <> 0'), ('feeling <> ''calm'''), ('num <> 1.25'), ('label <> ''label 3'''), ('ident <> ''00000003-1111-1111-1111-111111111111'''),
	('i2 <> 7 AND i2 <> 8 AND i2 < 20'), ('i2 <> ANY (''{7}'')'), ('i2 <> ANY (''{7,8}'')'), ('i2 <> ALL (''{7,8}'')')
	) v(condition), check_condition(condition) c;

-- Lists long and short, with NULLs in them
SELECT list, condition, c.*
FROM (VALUES ('short', 3), ('long', 5000)) l(list, n),
	(VALUES ('i4 = ANY (array(SELECT (g - 100) * 2000 FROM generate_series(1, %1$s) g) || NULL::integer)'),
			('i8 = ANY (array(SELECT g * 10000000000 FROM generate_series(1, %1$s) g))'),
			('num = ANY (array(SELECT g / 2.0 FROM generate_series(1, %1$s) g) || NULL::numeric)'),
			('code = ANY (array(SELECT ''code'' || g * 3 FROM generate_series(1, %1$s) g))'),
			('tags && array(SELECT ''t'' || g * 2 FROM generate_series(1, %1$s) g)')) v(condition),
	check_condition(format(condition, n)) c;
SELECT condition, c.*
FROM (VALUES ('i4 = ANY (''{}'')'), ('i4 = ANY (''{NULL}'')'), ('i4 < ANY (''{-199000,-195000}'')'), ('feeling > ANY (''{calm,NULL}'')'),
		('i4 = ANY (NULL::integer[])')) v(condition), check_condition(condition) c;

-- All of these are conditions of the index
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM attributes
WHERE i2 > 5 AND i4 < 5000000000 AND num >= 1 AND atz > date '2024-03-05' AND label_c LIKE 'label%' AND label = 'label 3'
	AND feeling > 'sad' AND day <> '2024-01-10' AND numbers && '{1,2}' AND tags @> '{t1}' AND dom IS NOT NULL
ORDER BY embedding <-> '[7,7]' LIMIT 5;
RESET enable_seqscan;

-- Values of an enum that come after the index
ALTER TYPE mood ADD VALUE 'gloomy' BEFORE 'sad';
INSERT INTO attributes (id, embedding, feeling) VALUES (600, '[6,6]', 'gloomy');
SELECT condition, c.*
FROM (VALUES ('feeling < ''sad'''), ('feeling <= ''calm'''), ('feeling > ''gloomy''')) v(condition), check_condition(condition) c;

DROP TABLE attributes;

-- What cannot be a winnow index
CREATE TABLE refused (embedding vector(2), other vector(2), body json, points point[], n integer);
CREATE INDEX ON refused USING winnow (n);
CREATE INDEX ON refused USING winnow (embedding vector_l2_ops, other vector_l2_ops);
CREATE INDEX ON refused USING winnow (embedding vector_l2_ops, body);
CREATE INDEX ON refused USING winnow (embedding vector_l2_ops, points);
DROP TABLE refused;

-- What is not a sound operator class
SET client_min_messages = info;
CREATE OPERATOR CLASS bad_ops FOR TYPE integer USING winnow AS
	OPERATOR 1 <, OPERATOR 6 =, OPERATOR 3 <-> (vector, vector) FOR ORDER BY float_ops,
	FUNCTION 2 winnow_int4_column(internal);
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'bad_ops';
DROP OPERATOR FAMILY bad_ops USING winnow;
CREATE OPERATOR CLASS bad_ops FOR TYPE integer USING winnow AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >;
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'bad_ops';
DROP OPERATOR FAMILY bad_ops USING winnow;
CREATE OPERATOR CLASS bad_ops FOR TYPE integer USING winnow AS
	OPERATOR 3 =, FUNCTION 1 winnow_int4_column(internal), FUNCTION 2 (integer, bigint) abs(integer);
SELECT amvalidate(oid) FROM pg_opclass WHERE opcname = 'bad_ops';
DROP OPERATOR FAMILY bad_ops USING winnow;

DROP FUNCTION check_condition;
DROP DOMAIN score;
DROP TYPE mood;
