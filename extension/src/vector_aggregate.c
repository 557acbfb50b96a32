/*
 * vector_aggregate.c
 *		avg(vector) and sum(vector).
 *
 * The state is double precision[]: the number of vectors, then the sums of the
 * elements. Being an ordinary type it passes between parallel workers as it
 * is; being double it does not overflow, and keeps what floats would lose over
 * many rows.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "vector.h"

#define STATE_SIZE(dim) \
	(ARR_OVERHEAD_NONULLS(1) + sizeof(float8) * ((Size) (dim) + 1))
#define STATE_VALUES(state) \
	((float8 *) ((char *) (state) + ARR_OVERHEAD_NONULLS(1)))
#define STATE_COUNT(state) (STATE_VALUES(state)[0])
#define STATE_SUMS(state) (STATE_VALUES(state) + 1)
#define STATE_DIM(state) (ARR_DIMS(state)[0] - 1)

static ArrayType *
new_state(int dim)
{
	ArrayType  *state = (ArrayType *) palloc0(STATE_SIZE(dim));

	SET_VARSIZE(state, STATE_SIZE(dim));
	state->ndim = 1;
	state->dataoffset = 0;
	state->elemtype = FLOAT8OID;
	*ARR_DIMS(state) = dim + 1;
	*ARR_LBOUND(state) = 1;
	return state;
}

/* Argument n as a state. Anybody may call these functions with any array. */
static ArrayType *
get_state(FunctionCallInfo fcinfo, int n)
{
	ArrayType  *state = PG_GETARG_ARRAYTYPE_P(n);

	if (ARR_NDIM(state) != 1 || ARR_HASNULL(state) ||
		ARR_ELEMTYPE(state) != FLOAT8OID ||
		STATE_DIM(state) > WINNOW_MAX_DIM)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("array is not a state of avg(vector) or sum(vector)")));
	return state;
}

/* Argument n as a state to change: in place where it is the aggregate's own. */
static ArrayType *
get_writable_state(FunctionCallInfo fcinfo, int n)
{
	ArrayType  *state = get_state(fcinfo, n);
	ArrayType  *copy;

	if (AggCheckCallContext(fcinfo, NULL))
		return state;
	copy = new_state(STATE_DIM(state));
	memcpy(STATE_VALUES(copy), STATE_VALUES(state),
		   sizeof(float8) * ((Size) STATE_DIM(state) + 1));
	return copy;
}

static void
check_state_dim(const ArrayType *state, int dim)
{
	if (STATE_DIM(state) != dim)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("different vector dimensions %d and %d",
						STATE_DIM(state), dim)));
}

PG_FUNCTION_INFO_V1(winnow_vector_accum);
Datum
winnow_vector_accum(PG_FUNCTION_ARGS)
{
	ArrayType  *state = get_writable_state(fcinfo, 0);
	WinnowVector *vector = PG_GETARG_WINNOW_VECTOR_P(1);
	float8	   *sums;
	int			i;

	/* The initial state, '{0}', does not know the dimensions yet. */
	if (STATE_DIM(state) == 0)
		state = new_state(vector->dim);
	check_state_dim(state, vector->dim);

	sums = STATE_SUMS(state);
	for (i = 0; i < vector->dim; i++)
		sums[i] += (double) vector->x[i];
	STATE_COUNT(state) += 1.0;
	PG_RETURN_ARRAYTYPE_P(state);
}

PG_FUNCTION_INFO_V1(winnow_vector_combine);
Datum
winnow_vector_combine(PG_FUNCTION_ARGS)
{
	ArrayType  *state = get_writable_state(fcinfo, 0);
	ArrayType  *other = get_state(fcinfo, 1);
	float8	   *sums;
	const float8 *other_sums;
	int			i;

	/* A worker that saw no row has no dimensions to contribute. */
	if (STATE_DIM(state) == 0)
		PG_RETURN_ARRAYTYPE_P(other);
	if (STATE_DIM(other) == 0)
		PG_RETURN_ARRAYTYPE_P(state);
	check_state_dim(state, STATE_DIM(other));

	sums = STATE_SUMS(state);
	other_sums = STATE_SUMS(other);
	for (i = 0; i < STATE_DIM(state); i++)
		sums[i] += other_sums[i];
	STATE_COUNT(state) += STATE_COUNT(other);
	PG_RETURN_ARRAYTYPE_P(state);
}

/* The vector of sums, each divided by divisor */
static WinnowVector *
finish(const ArrayType *state, double divisor)
{
	WinnowVector *result;
	int			i;

	winnow_check_dim(STATE_DIM(state));
	result = winnow_vector_new(STATE_DIM(state));
	for (i = 0; i < result->dim; i++)
	{
		result->x[i] = (float) (STATE_SUMS(state)[i] / divisor);
		if (unlikely(!isfinite(result->x[i])))
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("vector sum is out of range"),
					 errdetail("Element %d is too large for a 4-byte float.",
							   i + 1)));
	}
	return result;
}

PG_FUNCTION_INFO_V1(winnow_vector_avg);
Datum
winnow_vector_avg(PG_FUNCTION_ARGS)
{
	ArrayType  *state = get_state(fcinfo, 0);

	if (STATE_COUNT(state) == 0.0)
		PG_RETURN_NULL();
	PG_RETURN_WINNOW_VECTOR_P(finish(state, STATE_COUNT(state)));
}

PG_FUNCTION_INFO_V1(winnow_vector_sum);
Datum
winnow_vector_sum(PG_FUNCTION_ARGS)
{
	ArrayType  *state = get_state(fcinfo, 0);

	if (STATE_COUNT(state) == 0.0)
		PG_RETURN_NULL();
	PG_RETURN_WINNOW_VECTOR_P(finish(state, 1.0));
}
