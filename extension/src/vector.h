/*
 * vector.h
 *		The type vector: a list of 1 to 16,000 finite float4 elements.
 *
 * Its layout and its text and binary forms are those of pgvector's type of
 * the same name.
 */
#ifndef WINNOW_VECTOR_H
#define WINNOW_VECTOR_H

#include "postgres.h"

#include <float.h>
#include <math.h>

#include "fmgr.h"

#include "kernels/kernels.h"

#define WINNOW_MAX_DIM 16000

typedef struct WinnowVector
{
	int32		vl_len_;		/* varlena header, see SET_VARSIZE() */
	int16		dim;			/* number of elements */
	int16		unused;			/* always 0 */
	float		x[FLEXIBLE_ARRAY_MEMBER];
} WinnowVector;

#define WINNOW_VECTOR_SIZE(dim) \
	(offsetof(WinnowVector, x) + sizeof(float) * (Size) (dim))

#define DatumGetWinnowVector(d) ((WinnowVector *) PG_DETOAST_DATUM(d))
#define PG_GETARG_WINNOW_VECTOR_P(n) DatumGetWinnowVector(PG_GETARG_DATUM(n))
#define PG_RETURN_WINNOW_VECTOR_P(v) PG_RETURN_POINTER(v)

/* vector.c */

/* Allocates a vector whose elements are not set yet. dim must be legal. */
extern WinnowVector *winnow_vector_new(int dim);

/* Raises an error unless a vector can have that many dimensions. */
extern void winnow_check_dim(int dim);

/* Raises an error unless dim is what typmod asks for (-1 asks for nothing). */
extern void winnow_check_typmod(int32 typmod, int dim);

/* Raises an error unless all elements are finite. */
extern void winnow_check_elements(const float *x, int dim);

/* vector_ops.c */

/* Raises an error unless two operands have the same number of dimensions. */
extern void winnow_check_dims(const WinnowVector *a, const WinnowVector *b);

extern double winnow_wide_l2_squared(const float *a, const float *b, int dim);
extern double winnow_wide_inner_product(const float *a, const float *b, int dim);
extern double winnow_wide_l1(const float *a, const float *b, int dim);
extern double winnow_wide_cosine(const float *a, const float *b, int dim);

/*
 * Distances. The SQL functions and the index both call these, so that both
 * see the same bits.
 *
 * The kernels accumulate in float, which overflows from elements of some 1e19
 * on, and loses what is squared below some 1e-19. The range of the result
 * shows whether that may have happened; the distance is then computed again in
 * double, whose range no sum over legal vectors can leave. The lower bound
 * leaves room for the sum to consist of WINNOW_MAX_DIM equal terms.
 */
#define WINNOW_SAFE_SQUARE_MIN 1e-30f

static inline bool
winnow_square_is_safe(float square)
{
	return square >= WINNOW_SAFE_SQUARE_MIN && square <= FLT_MAX;
}

static inline double
winnow_distance_l2(const float *a, const float *b, int dim)
{
	float		square = winnow_kernels->l2_squared(a, b, dim);

	if (unlikely(!winnow_square_is_safe(square)))
		return sqrt(winnow_wide_l2_squared(a, b, dim));
	return sqrt((double) square);
}

static inline double
winnow_distance_negative_ip(const float *a, const float *b, int dim)
{
	float		product = winnow_kernels->inner_product(a, b, dim);

	/* Subtracting from zero, other than negating, never gives -0. */
	if (unlikely(!isfinite(product)))
		return 0.0 - winnow_wide_inner_product(a, b, dim);
	return 0.0 - (double) product;
}

/* 1 - cos(a, b), within [0, 2]; NaN if a or b is zero and has no direction */
static inline double
winnow_distance_cosine(const float *a, const float *b, int dim)
{
	float		ab;
	float		aa;
	float		bb;
	double		similarity;

	winnow_kernels->cosine_terms(a, b, dim, &ab, &aa, &bb);
	if (unlikely(!winnow_square_is_safe(aa) || !winnow_square_is_safe(bb)))
		return winnow_wide_cosine(a, b, dim);

	similarity = (double) ab / sqrt((double) aa * (double) bb);
	return 1.0 - Max(-1.0, Min(1.0, similarity));
}

static inline double
winnow_distance_l1(const float *a, const float *b, int dim)
{
	float		sum = winnow_kernels->l1(a, b, dim);

	if (unlikely(!isfinite(sum)))
		return winnow_wide_l1(a, b, dim);
	return (double) sum;
}

#endif							/* WINNOW_VECTOR_H */
