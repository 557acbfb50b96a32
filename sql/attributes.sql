-- Attribute columns: the operator classes of everything that is not a vector.
--
-- Strategies: 1 <, 2 <=, 3 =, 4 >=, 5 >, 6 &&, 7 @>, 8 <> (where the index decides it alone).  Support function 2 says how values of the type become
-- fixed-width columns.  The operators are PostgreSQL's own.

CREATE FUNCTION winnow_bool_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_bool_column(internal) IS 'winnow column: a boolean';

CREATE FUNCTION winnow_int2_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_int2_column(internal) IS 'winnow column: a two-byte integer';

CREATE FUNCTION winnow_int4_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_int4_column(internal) IS 'winnow column: a four-byte integer';

CREATE FUNCTION winnow_int8_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_int8_column(internal) IS 'winnow column: an eight-byte integer';

CREATE FUNCTION winnow_oid_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_oid_column(internal) IS 'winnow column: an object identifier';

CREATE FUNCTION winnow_enum_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_enum_column(internal) IS 'winnow column: the OID of an enum value';

CREATE FUNCTION winnow_float4_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_float4_column(internal) IS 'winnow column: a single-precision number';

CREATE FUNCTION winnow_float8_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_float8_column(internal) IS 'winnow column: a double-precision number';

CREATE FUNCTION winnow_numeric_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_numeric_column(internal) IS 'winnow column: a numeric, rounded to double precision';

CREATE FUNCTION winnow_date_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_date_column(internal) IS 'winnow column: a date';

CREATE FUNCTION winnow_time_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_time_column(internal) IS 'winnow column: a time of day';

CREATE FUNCTION winnow_timestamp_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_timestamp_column(internal) IS 'winnow column: a timestamp';

CREATE FUNCTION winnow_timestamptz_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_timestamptz_column(internal) IS 'winnow column: a timestamp with time zone';

CREATE FUNCTION winnow_uuid_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_uuid_column(internal) IS 'winnow column: the first eight bytes of a UUID';

CREATE FUNCTION winnow_text_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_text_column(internal) IS 'winnow column: the hash of a text, and its prefix where the collation is C';

CREATE FUNCTION winnow_bpchar_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_bpchar_column(internal) IS 'winnow column: the hash of a blank-padded text';

CREATE FUNCTION winnow_bytea_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_bytea_column(internal) IS 'winnow column: the hash and the prefix of a byte string';

CREATE FUNCTION winnow_array_column(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_array_column(internal) IS 'winnow column: a Bloom signature of an array';

-- Integers

CREATE OPERATOR FAMILY integer_ops USING winnow;
COMMENT ON OPERATOR FAMILY integer_ops USING winnow IS 'filters on smallint, integer and bigint columns';

CREATE OPERATOR CLASS int2_ops DEFAULT FOR TYPE int2 USING winnow FAMILY integer_ops AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	OPERATOR 8 <>,
	FUNCTION 2 winnow_int2_column(internal);
COMMENT ON OPERATOR CLASS int2_ops USING winnow IS 'filters on smallint columns';

CREATE OPERATOR CLASS int4_ops DEFAULT FOR TYPE int4 USING winnow FAMILY integer_ops AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	OPERATOR 8 <>,
	FUNCTION 2 winnow_int4_column(internal);
COMMENT ON OPERATOR CLASS int4_ops USING winnow IS 'filters on integer columns';

CREATE OPERATOR CLASS int8_ops DEFAULT FOR TYPE int8 USING winnow FAMILY integer_ops AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	OPERATOR 8 <>,
	FUNCTION 2 winnow_int8_column(internal);
COMMENT ON OPERATOR CLASS int8_ops USING winnow IS 'filters on bigint columns';

ALTER OPERATOR FAMILY integer_ops USING winnow ADD
	OPERATOR 1 < (int2, int4),
	OPERATOR 2 <= (int2, int4),
	OPERATOR 3 = (int2, int4),
	OPERATOR 4 >= (int2, int4),
	OPERATOR 5 > (int2, int4),
	OPERATOR 8 <> (int2, int4),
	OPERATOR 1 < (int2, int8),
	OPERATOR 2 <= (int2, int8),
	OPERATOR 3 = (int2, int8),
	OPERATOR 4 >= (int2, int8),
	OPERATOR 5 > (int2, int8),
	OPERATOR 8 <> (int2, int8),
	OPERATOR 1 < (int4, int2),
	OPERATOR 2 <= (int4, int2),
	OPERATOR 3 = (int4, int2),
	OPERATOR 4 >= (int4, int2),
	OPERATOR 5 > (int4, int2),
	OPERATOR 8 <> (int4, int2),
	OPERATOR 1 < (int4, int8),
	OPERATOR 2 <= (int4, int8),
	OPERATOR 3 = (int4, int8),
	OPERATOR 4 >= (int4, int8),
	OPERATOR 5 > (int4, int8),
	OPERATOR 8 <> (int4, int8),
	OPERATOR 1 < (int8, int2),
	OPERATOR 2 <= (int8, int2),
	OPERATOR 3 = (int8, int2),
	OPERATOR 4 >= (int8, int2),
	OPERATOR 5 > (int8, int2),
	OPERATOR 8 <> (int8, int2),
	OPERATOR 1 < (int8, int4),
	OPERATOR 2 <= (int8, int4),
	OPERATOR 3 = (int8, int4),
	OPERATOR 4 >= (int8, int4),
	OPERATOR 5 > (int8, int4),
	OPERATOR 8 <> (int8, int4);

-- Floating point

CREATE OPERATOR FAMILY float_ops USING winnow;
COMMENT ON OPERATOR FAMILY float_ops USING winnow IS 'filters on real and double precision columns';

CREATE OPERATOR CLASS float4_ops DEFAULT FOR TYPE float4 USING winnow FAMILY float_ops AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	OPERATOR 8 <>,
	FUNCTION 2 winnow_float4_column(internal);
COMMENT ON OPERATOR CLASS float4_ops USING winnow IS 'filters on real columns';

CREATE OPERATOR CLASS float8_ops DEFAULT FOR TYPE float8 USING winnow FAMILY float_ops AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	OPERATOR 8 <>,
	FUNCTION 2 winnow_float8_column(internal);
COMMENT ON OPERATOR CLASS float8_ops USING winnow IS 'filters on double precision columns';

ALTER OPERATOR FAMILY float_ops USING winnow ADD
	OPERATOR 1 < (float4, float8),
	OPERATOR 2 <= (float4, float8),
	OPERATOR 3 = (float4, float8),
	OPERATOR 4 >= (float4, float8),
	OPERATOR 5 > (float4, float8),
	OPERATOR 8 <> (float4, float8),
	OPERATOR 1 < (float8, float4),
	OPERATOR 2 <= (float8, float4),
	OPERATOR 3 = (float8, float4),
	OPERATOR 4 >= (float8, float4),
	OPERATOR 5 > (float8, float4),
	OPERATOR 8 <> (float8, float4);

-- Dates and timestamps

CREATE OPERATOR FAMILY datetime_ops USING winnow;
COMMENT ON OPERATOR FAMILY datetime_ops USING winnow IS 'filters on date and timestamp columns';

CREATE OPERATOR CLASS date_ops DEFAULT FOR TYPE date USING winnow FAMILY datetime_ops AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	OPERATOR 8 <>,
	FUNCTION 2 winnow_date_column(internal);
COMMENT ON OPERATOR CLASS date_ops USING winnow IS 'filters on date columns';

CREATE OPERATOR CLASS timestamp_ops DEFAULT FOR TYPE timestamp USING winnow FAMILY datetime_ops AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	OPERATOR 8 <>,
	FUNCTION 2 winnow_timestamp_column(internal);
COMMENT ON OPERATOR CLASS timestamp_ops USING winnow IS 'filters on timestamp columns';

CREATE OPERATOR CLASS timestamptz_ops DEFAULT FOR TYPE timestamptz USING winnow FAMILY datetime_ops AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	OPERATOR 8 <>,
	FUNCTION 2 winnow_timestamptz_column(internal);
COMMENT ON OPERATOR CLASS timestamptz_ops USING winnow IS 'filters on timestamp with time zone columns';

ALTER OPERATOR FAMILY datetime_ops USING winnow ADD
	OPERATOR 1 < (date, timestamp),
	OPERATOR 2 <= (date, timestamp),
	OPERATOR 3 = (date, timestamp),
	OPERATOR 4 >= (date, timestamp),
	OPERATOR 5 > (date, timestamp),
	OPERATOR 8 <> (date, timestamp),
	OPERATOR 1 < (date, timestamptz),
	OPERATOR 2 <= (date, timestamptz),
	OPERATOR 3 = (date, timestamptz),
	OPERATOR 4 >= (date, timestamptz),
	OPERATOR 5 > (date, timestamptz),
	OPERATOR 1 < (timestamp, date),
	OPERATOR 2 <= (timestamp, date),
	OPERATOR 3 = (timestamp, date),
	OPERATOR 4 >= (timestamp, date),
	OPERATOR 5 > (timestamp, date),
	OPERATOR 8 <> (timestamp, date),
	OPERATOR 1 < (timestamp, timestamptz),
	OPERATOR 2 <= (timestamp, timestamptz),
	OPERATOR 3 = (timestamp, timestamptz),
	OPERATOR 4 >= (timestamp, timestamptz),
	OPERATOR 5 > (timestamp, timestamptz),
	OPERATOR 1 < (timestamptz, date),
	OPERATOR 2 <= (timestamptz, date),
	OPERATOR 3 = (timestamptz, date),
	OPERATOR 4 >= (timestamptz, date),
	OPERATOR 5 > (timestamptz, date),
	OPERATOR 8 <> (timestamptz, date),
	OPERATOR 1 < (timestamptz, timestamp),
	OPERATOR 2 <= (timestamptz, timestamp),
	OPERATOR 3 = (timestamptz, timestamp),
	OPERATOR 4 >= (timestamptz, timestamp),
	OPERATOR 5 > (timestamptz, timestamp),
	OPERATOR 8 <> (timestamptz, timestamp);

-- Types that compare with themselves alone

CREATE OPERATOR CLASS bool_ops DEFAULT FOR TYPE bool USING winnow AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	OPERATOR 8 <>,
	FUNCTION 2 winnow_bool_column(internal);
COMMENT ON OPERATOR CLASS bool_ops USING winnow IS 'filters on boolean columns';
COMMENT ON OPERATOR FAMILY bool_ops USING winnow IS 'filters on boolean columns';

CREATE OPERATOR CLASS oid_ops DEFAULT FOR TYPE oid USING winnow AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	OPERATOR 8 <>,
	FUNCTION 2 winnow_oid_column(internal);
COMMENT ON OPERATOR CLASS oid_ops USING winnow IS 'filters on oid columns';
COMMENT ON OPERATOR FAMILY oid_ops USING winnow IS 'filters on oid columns';

CREATE OPERATOR CLASS enum_ops DEFAULT FOR TYPE anyenum USING winnow AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	OPERATOR 8 <>,
	FUNCTION 2 winnow_enum_column(internal);
COMMENT ON OPERATOR CLASS enum_ops USING winnow IS 'filters on enum columns';
COMMENT ON OPERATOR FAMILY enum_ops USING winnow IS 'filters on enum columns';

CREATE OPERATOR CLASS numeric_ops DEFAULT FOR TYPE numeric USING winnow AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	FUNCTION 2 winnow_numeric_column(internal);
COMMENT ON OPERATOR CLASS numeric_ops USING winnow IS 'filters on numeric columns';
COMMENT ON OPERATOR FAMILY numeric_ops USING winnow IS 'filters on numeric columns';

CREATE OPERATOR CLASS time_ops DEFAULT FOR TYPE time USING winnow AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	OPERATOR 8 <>,
	FUNCTION 2 winnow_time_column(internal);
COMMENT ON OPERATOR CLASS time_ops USING winnow IS 'filters on time columns';
COMMENT ON OPERATOR FAMILY time_ops USING winnow IS 'filters on time columns';

CREATE OPERATOR CLASS uuid_ops DEFAULT FOR TYPE uuid USING winnow AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	FUNCTION 2 winnow_uuid_column(internal);
COMMENT ON OPERATOR CLASS uuid_ops USING winnow IS 'filters on uuid columns';
COMMENT ON OPERATOR FAMILY uuid_ops USING winnow IS 'filters on uuid columns';

-- Strings: equality by hash, and ranges by prefix where the collation is C

CREATE OPERATOR FAMILY text_ops USING winnow;
COMMENT ON OPERATOR FAMILY text_ops USING winnow IS 'filters on text and varchar columns';

CREATE OPERATOR CLASS text_ops DEFAULT FOR TYPE text USING winnow FAMILY text_ops AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	FUNCTION 2 winnow_text_column(internal);
COMMENT ON OPERATOR CLASS text_ops USING winnow IS 'filters on text and varchar columns';

-- The same class by the name that other access methods have for varchar
CREATE OPERATOR CLASS varchar_ops FOR TYPE text USING winnow FAMILY text_ops AS
	STORAGE text;
COMMENT ON OPERATOR CLASS varchar_ops USING winnow IS 'filters on varchar columns; the same as text_ops';

CREATE OPERATOR CLASS bpchar_ops DEFAULT FOR TYPE bpchar USING winnow AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	FUNCTION 2 winnow_bpchar_column(internal);
COMMENT ON OPERATOR CLASS bpchar_ops USING winnow IS 'filters on character(n) columns';
COMMENT ON OPERATOR FAMILY bpchar_ops USING winnow IS 'filters on character(n) columns';

CREATE OPERATOR CLASS bytea_ops DEFAULT FOR TYPE bytea USING winnow AS
	OPERATOR 1 <,
	OPERATOR 2 <=,
	OPERATOR 3 =,
	OPERATOR 4 >=,
	OPERATOR 5 >,
	FUNCTION 2 winnow_bytea_column(internal);
COMMENT ON OPERATOR CLASS bytea_ops USING winnow IS 'filters on bytea columns';
COMMENT ON OPERATOR FAMILY bytea_ops USING winnow IS 'filters on bytea columns';

-- Arrays of any type that has a hash function
CREATE OPERATOR CLASS array_ops DEFAULT FOR TYPE anyarray USING winnow AS
	OPERATOR 6 && (anyarray, anyarray),
	OPERATOR 7 @> (anyarray, anyarray),
	FUNCTION 2 winnow_array_column(internal);
COMMENT ON OPERATOR CLASS array_ops USING winnow IS 'filters on array columns: overlaps and contains';
COMMENT ON OPERATOR FAMILY array_ops USING winnow IS 'filters on array columns: overlaps and contains';
