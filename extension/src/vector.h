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

#include "fmgr.h"

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

#endif							/* WINNOW_VECTOR_H */
