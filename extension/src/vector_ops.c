/*
 * vector_ops.c
 *		Distances, arithmetic, comparisons and functions of the type vector.
 */
#include "postgres.h"

#include "utils/float.h"
#include "utils/varbit.h"

#include "compat.h"
#include "core/distance.h"
#include "vector.h"

/* Two operands must have the same number of dimensions. */
static void
check_dims(const WinnowVector *a, const WinnowVector *b)
{
	if (a->dim != b->dim)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("different vector dimensions %d and %d",
						a->dim, b->dim)));
}

/*
 * Distances
 */
static double
distance(FunctionCallInfo fcinfo, WinnowDistance kind)
{
	WinnowVector *a = PG_GETARG_WINNOW_VECTOR_P(0);
	WinnowVector *b = PG_GETARG_WINNOW_VECTOR_P(1);

	check_dims(a, b);
	return winnow_distance(kind, a->x, b->x, a->dim);
}

PG_FUNCTION_INFO_V1(winnow_l2_distance);
Datum
winnow_l2_distance(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(distance(fcinfo, WINNOW_DISTANCE_L2));
}

PG_FUNCTION_INFO_V1(winnow_inner_product);
Datum
winnow_inner_product(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(0.0 - distance(fcinfo, WINNOW_DISTANCE_IP));
}

PG_FUNCTION_INFO_V1(winnow_vector_negative_inner_product);
Datum
winnow_vector_negative_inner_product(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(distance(fcinfo, WINNOW_DISTANCE_IP));
}

PG_FUNCTION_INFO_V1(winnow_cosine_distance);
Datum
winnow_cosine_distance(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(distance(fcinfo, WINNOW_DISTANCE_COSINE));
}

PG_FUNCTION_INFO_V1(winnow_l1_distance);
Datum
winnow_l1_distance(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(distance(fcinfo, WINNOW_DISTANCE_L1));
}

/*
 * Arithmetic, element by element. A result too small for a float becomes
 * zero, as such an input does; one too large is an error.
 */
static void
check_overflow(const WinnowVector *result, const char *operation)
{
	int			i;

	for (i = 0; i < result->dim; i++)
	{
		if (unlikely(isinf(result->x[i])))
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("vector %s is out of range", operation),
					 errdetail("Element %d is too large for a 4-byte float.",
							   i + 1)));
	}
}

#define WINNOW_ARITHMETIC_FUNCTION(name, op, operation) \
PG_FUNCTION_INFO_V1(name); \
Datum \
name(PG_FUNCTION_ARGS) \
{ \
	WinnowVector *a = PG_GETARG_WINNOW_VECTOR_P(0); \
	WinnowVector *b = PG_GETARG_WINNOW_VECTOR_P(1); \
	WinnowVector *result; \
	int			i; \
	check_dims(a, b); \
	result = winnow_vector_new(a->dim); \
	for (i = 0; i < a->dim; i++) \
		result->x[i] = a->x[i] op b->x[i]; \
	check_overflow(result, operation); \
	PG_RETURN_WINNOW_VECTOR_P(result); \
} \
extern int no_such_variable

WINNOW_ARITHMETIC_FUNCTION(winnow_vector_add, +, "sum");
WINNOW_ARITHMETIC_FUNCTION(winnow_vector_sub, -, "difference");
WINNOW_ARITHMETIC_FUNCTION(winnow_vector_mul, *, "product");

PG_FUNCTION_INFO_V1(winnow_vector_concat);
Datum
winnow_vector_concat(PG_FUNCTION_ARGS)
{
	WinnowVector *a = PG_GETARG_WINNOW_VECTOR_P(0);
	WinnowVector *b = PG_GETARG_WINNOW_VECTOR_P(1);
	int			dim = (int) a->dim + (int) b->dim;
	WinnowVector *result;

	winnow_check_dim(dim);
	result = winnow_vector_new(dim);
	memcpy(result->x, a->x, a->dim * sizeof(float));
	memcpy(result->x + a->dim, b->x, b->dim * sizeof(float));
	PG_RETURN_WINNOW_VECTOR_P(result);
}

/*
 * Comparisons: a total order for sorting, grouping and unique indexes, by the
 * first element that differs, then by length. It says nothing about distance.
 * Any two vectors compare, whatever their dimensions.
 */
static int
compare(const WinnowVector *a, const WinnowVector *b)
{
	int			shared = Min(a->dim, b->dim);
	int			i;

	for (i = 0; i < shared; i++)
	{
		if (a->x[i] < b->x[i])
			return -1;
		if (a->x[i] > b->x[i])
			return 1;
	}
	return (a->dim > b->dim) - (a->dim < b->dim);
}

/* B-trees call these in contexts that live long, hence the PG_FREE_IF_COPY. */
static int
compare_arguments(FunctionCallInfo fcinfo)
{
	WinnowVector *a = PG_GETARG_WINNOW_VECTOR_P(0);
	WinnowVector *b = PG_GETARG_WINNOW_VECTOR_P(1);
	int			order = compare(a, b);

	PG_FREE_IF_COPY(a, 0);
	PG_FREE_IF_COPY(b, 1);
	return order;
}

#define WINNOW_COMPARISON_FUNCTION(name, op) \
PG_FUNCTION_INFO_V1(name); \
Datum \
name(PG_FUNCTION_ARGS) \
{ \
	PG_RETURN_BOOL(compare_arguments(fcinfo) op 0); \
} \
extern int no_such_variable

WINNOW_COMPARISON_FUNCTION(winnow_vector_lt, <);
WINNOW_COMPARISON_FUNCTION(winnow_vector_le, <=);
WINNOW_COMPARISON_FUNCTION(winnow_vector_eq, ==);
WINNOW_COMPARISON_FUNCTION(winnow_vector_ne, !=);
WINNOW_COMPARISON_FUNCTION(winnow_vector_ge, >=);
WINNOW_COMPARISON_FUNCTION(winnow_vector_gt, >);

PG_FUNCTION_INFO_V1(winnow_vector_cmp);
Datum
winnow_vector_cmp(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(compare_arguments(fcinfo));
}

/*
 * Functions of one vector
 */
static double
norm(const WinnowVector *vector)
{
	return sqrt(winnow_wide_inner_product(vector->x, vector->x, vector->dim));
}

PG_FUNCTION_INFO_V1(winnow_vector_dims);
Datum
winnow_vector_dims(PG_FUNCTION_ARGS)
{
	/* The header alone: a long vector is stored elsewhere, uncompressed. */
	WinnowVector *vector = (WinnowVector *)
		PG_DETOAST_DATUM_SLICE(PG_GETARG_DATUM(0), 0, sizeof(int16));

	PG_RETURN_INT32(vector->dim);
}

PG_FUNCTION_INFO_V1(winnow_vector_norm);
Datum
winnow_vector_norm(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(norm(PG_GETARG_WINNOW_VECTOR_P(0)));
}

/* Scales to length 1. The zero vector has no direction and stays as it is. */
PG_FUNCTION_INFO_V1(winnow_l2_normalize);
Datum
winnow_l2_normalize(PG_FUNCTION_ARGS)
{
	WinnowVector *vector = PG_GETARG_WINNOW_VECTOR_P(0);
	WinnowVector *result = winnow_vector_new(vector->dim);
	double		length = norm(vector);
	int			i;

	for (i = 0; i < vector->dim; i++)
		result->x[i] = (length > 0.0) ? (float) (vector->x[i] / length) : 0.0f;
	PG_RETURN_WINNOW_VECTOR_P(result);
}

/* One bit per element: is it positive? */
PG_FUNCTION_INFO_V1(winnow_binary_quantize);
Datum
winnow_binary_quantize(PG_FUNCTION_ARGS)
{
	WinnowVector *vector = PG_GETARG_WINNOW_VECTOR_P(0);
	Size		size = VARBITTOTALLEN(vector->dim);
	VarBit	   *result = (VarBit *) palloc0(size);
	bits8	   *bits = VARBITS(result);
	int			i;

	SET_VARSIZE(result, size);
	VARBITLEN(result) = vector->dim;
	for (i = 0; i < vector->dim; i++)
	{
		if (vector->x[i] > 0.0f)
			bits[i / BITS_PER_BYTE] |= HIGHBIT >> (i % BITS_PER_BYTE);
	}
	PG_RETURN_VARBIT_P(result);
}

/*
 * Elements start to start + count - 1, counted from 1. What lies outside of the
 * vector is left out, as substring() does; an empty result is an error.
 */
PG_FUNCTION_INFO_V1(winnow_subvector);
Datum
winnow_subvector(PG_FUNCTION_ARGS)
{
	WinnowVector *vector = PG_GETARG_WINNOW_VECTOR_P(0);
	int64		start = PG_GETARG_INT32(1);
	int64		count = PG_GETARG_INT32(2);
	int64		first = Max(start, 1);
	int64		last = Min(start + count - 1, (int64) vector->dim);
	WinnowVector *result;

	if (last < first)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("vector must have at least 1 dimension"),
				 errdetail("A vector of %d dimensions has none from " INT64_FORMAT " to " INT64_FORMAT ".",
						   vector->dim, start, start + count - 1)));

	result = winnow_vector_new((int) (last - first + 1));
	memcpy(result->x, vector->x + first - 1, result->dim * sizeof(float));
	PG_RETURN_WINNOW_VECTOR_P(result);
}
