/*
 * vector_cast.c
 *		Casts between the type vector and arrays of numbers.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "core/parse.h"
#include "vector.h"

/* Raises an error: element number position of an array is beyond any float. */
static void
report_out_of_range(const char *value, int position)
{
	ereport(ERROR,
			(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
			 errmsg("%.40s%s is out of range for type vector",
					value, strlen(value) > 40 ? "..." : ""),
			 errdetail("Element %d of the array is too large for a 4-byte float.",
					   position)));
}

static float
float8_to_element(double value, int position)
{
	float		element = (float) value;

	if (isinf(element) && !isinf(value))
		report_out_of_range(psprintf("%g", value), position);
	return element;
}

/* By way of its text, so that it gives the float that the text would give. */
static float
numeric_to_element(Datum value, int position)
{
	const char *text = DatumGetCString(DirectFunctionCall1(numeric_out, value));
	const char *cursor = text;
	float		element = 0.0f;

	switch (winnow_parse_number(&cursor, &element))
	{
		case WINNOW_PARSE_OK:
			break;
		case WINNOW_PARSE_NAN:
			element = (float) NAN;
			break;
		case WINNOW_PARSE_INFINITE:
			element = (float) INFINITY;
			break;
		case WINNOW_PARSE_OUT_OF_RANGE:
			report_out_of_range(text, position);
			break;
		default:
			elog(ERROR, "numeric with unexpected text \"%s\"", text);
	}
	return element;
}

/* Raises an error unless the array can become a vector; returns its length. */
static int
check_array(ArrayType *array)
{
	int			dim = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("array with %d dimensions cannot become a vector",
						ARR_NDIM(array)),
				 errdetail("A vector is one list of numbers, so the array must have one dimension.")));
	winnow_check_dim(dim);
	return dim;
}

/* integer[], real[], double precision[] or numeric[] to vector */
PG_FUNCTION_INFO_V1(winnow_array_to_vector);
Datum
winnow_array_to_vector(PG_FUNCTION_ARGS)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	int32		typmod = PG_GETARG_INT32(1);
	Oid			type = ARR_ELEMTYPE(array);
	int			dim = check_array(array);
	int16		length;
	bool		by_value;
	char		alignment;
	Datum	   *values;
	bool	   *nulls;
	WinnowVector *result;
	int			i;

	winnow_check_typmod(typmod, dim);
	get_typlenbyvalalign(type, &length, &by_value, &alignment);
	deconstruct_array(array, type, length, by_value, alignment,
					  &values, &nulls, &dim);

	result = winnow_vector_new(dim);
	for (i = 0; i < dim; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("NULL is not allowed in vector"),
					 errdetail("It is element %d.", i + 1)));
		switch (type)
		{
			case INT4OID:
				result->x[i] = (float) DatumGetInt32(values[i]);
				break;
			case FLOAT4OID:
				result->x[i] = DatumGetFloat4(values[i]);
				break;
			case FLOAT8OID:
				result->x[i] = float8_to_element(DatumGetFloat8(values[i]), i + 1);
				break;
			case NUMERICOID:
				result->x[i] = numeric_to_element(values[i], i + 1);
				break;
			default:
				elog(ERROR, "no cast from an array of type %u to vector", type);
		}
	}
	winnow_check_elements(result->x, dim);
	PG_RETURN_WINNOW_VECTOR_P(result);
}

/* A float as the numeric of the same text: numeric(float4) keeps 6 digits. */
static Datum
element_to_numeric(float element)
{
	char		text[FLOAT_SHORTEST_DECIMAL_LEN];

	float_to_shortest_decimal_buf(element, text);
	return DirectFunctionCall3(numeric_in, CStringGetDatum(text),
							   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

static ArrayType *
make_array(const WinnowVector *vector, Oid type)
{
	Datum	   *values = palloc(vector->dim * sizeof(Datum));
	int16		length;
	bool		by_value;
	char		alignment;
	int			i;

	for (i = 0; i < vector->dim; i++)
	{
		float		element = vector->x[i];

		switch (type)
		{
			case INT4OID:
				values[i] = DirectFunctionCall1(ftoi4, Float4GetDatum(element));
				break;
			case FLOAT4OID:
				values[i] = Float4GetDatum(element);
				break;
			case FLOAT8OID:
				values[i] = Float8GetDatum((double) element);
				break;
			case NUMERICOID:
				values[i] = element_to_numeric(element);
				break;
			default:
				elog(ERROR, "no cast from vector to an array of type %u", type);
		}
	}
	get_typlenbyvalalign(type, &length, &by_value, &alignment);
	return construct_array(values, vector->dim, type,
						   length, by_value, alignment);
}

/* To integer[] as from real to integer: rounded, an error out of range */
PG_FUNCTION_INFO_V1(winnow_vector_to_int4);
Datum
winnow_vector_to_int4(PG_FUNCTION_ARGS)
{
	PG_RETURN_ARRAYTYPE_P(make_array(PG_GETARG_WINNOW_VECTOR_P(0), INT4OID));
}

PG_FUNCTION_INFO_V1(winnow_vector_to_float4);
Datum
winnow_vector_to_float4(PG_FUNCTION_ARGS)
{
	PG_RETURN_ARRAYTYPE_P(make_array(PG_GETARG_WINNOW_VECTOR_P(0), FLOAT4OID));
}

PG_FUNCTION_INFO_V1(winnow_vector_to_float8);
Datum
winnow_vector_to_float8(PG_FUNCTION_ARGS)
{
	PG_RETURN_ARRAYTYPE_P(make_array(PG_GETARG_WINNOW_VECTOR_P(0), FLOAT8OID));
}

PG_FUNCTION_INFO_V1(winnow_vector_to_numeric);
Datum
winnow_vector_to_numeric(PG_FUNCTION_ARGS)
{
	PG_RETURN_ARRAYTYPE_P(make_array(PG_GETARG_WINNOW_VECTOR_P(0), NUMERICOID));
}
