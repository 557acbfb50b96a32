-- The access method, and the operator classes of the vector column.

CREATE FUNCTION winnow_handler(internal) RETURNS index_am_handler
	AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON FUNCTION winnow_handler(internal) IS 'handler of the winnow access method';

CREATE ACCESS METHOD winnow TYPE INDEX HANDLER winnow_handler;
COMMENT ON ACCESS METHOD winnow IS 'nearest neighbours under ordinary WHERE clauses';

CREATE FUNCTION winnow_metric_l2(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_metric_l2(internal) IS 'operator class support: Euclidean distance';

CREATE FUNCTION winnow_metric_ip(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_metric_ip(internal) IS 'operator class support: inner product';

CREATE FUNCTION winnow_metric_cosine(internal) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_metric_cosine(internal) IS 'operator class support: cosine distance';

CREATE OPERATOR CLASS vector_l2_ops
	DEFAULT FOR TYPE vector USING winnow AS
	OPERATOR 1 <-> (vector, vector) FOR ORDER BY float_ops,
	FUNCTION 1 winnow_metric_l2(internal);
COMMENT ON OPERATOR CLASS vector_l2_ops USING winnow IS 'Euclidean distance';
COMMENT ON OPERATOR FAMILY vector_l2_ops USING winnow IS 'nearest rows by Euclidean distance';

CREATE OPERATOR CLASS vector_ip_ops
	FOR TYPE vector USING winnow AS
	OPERATOR 1 <#> (vector, vector) FOR ORDER BY float_ops,
	FUNCTION 1 winnow_metric_ip(internal);
COMMENT ON OPERATOR CLASS vector_ip_ops USING winnow IS 'inner product';
COMMENT ON OPERATOR FAMILY vector_ip_ops USING winnow IS 'nearest rows by inner product';

CREATE OPERATOR CLASS vector_cosine_ops
	FOR TYPE vector USING winnow AS
	OPERATOR 1 <=> (vector, vector) FOR ORDER BY float_ops,
	FUNCTION 1 winnow_metric_cosine(internal);
COMMENT ON OPERATOR CLASS vector_cosine_ops USING winnow IS 'cosine distance';
COMMENT ON OPERATOR FAMILY vector_cosine_ops USING winnow IS 'nearest rows by cosine distance';
