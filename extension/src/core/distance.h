/*
 * distance.h
 *		Distances of two vectors, as the operators of the type vector compute them.
 *
 * The kernels accumulate in float, which overflows from elements of some 1e19
 * on, and loses what is squared below some 1e-19.  The range of the result
 * shows whether that may have happened; the distance is then computed again in
 * double, whose range no sum over finite floats can leave.
 */
#ifndef WINNOW_DISTANCE_H
#define WINNOW_DISTANCE_H

typedef enum WinnowDistance
{
	WINNOW_DISTANCE_L2 = 1,		/* Euclidean */
	WINNOW_DISTANCE_IP = 2,		/* inner product, negated */
	WINNOW_DISTANCE_COSINE = 3, /* 1 - cosine, within [0, 2]; NaN for a zero vector */
	WINNOW_DISTANCE_L1 = 4		/* sum of absolute differences */
} WinnowDistance;

/* The distance of two vectors of dim >= 1 finite floats; never -0. */
extern double winnow_distance(WinnowDistance kind, const float *a, const float *b, int dim);

/* The inner product of two vectors of dim floats, summed in double. */
extern double winnow_wide_inner_product(const float *a, const float *b, int dim);

#endif							/* WINNOW_DISTANCE_H */
