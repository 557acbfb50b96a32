/*
 * refine.h
 *		More bits per dimension: refinement codes, and narrower bounds from them.
 *
 * Gao, Gou, Xu, Yang, Long and Wong, "Practical and Asymptotically Optimal
 * Quantization of High-Dimensional Vectors in Euclidean Space for Approximate
 * Nearest Neighbor Search", SIGMOD 2025, extends RaBitQ to B bits.  Here each
 * dimension of the residual x - c is rounded to one of 2^B evenly spaced values,
 *
 *		y[i] = u[i] - (2^B - 1) / 2		with u[i] from 0 to 2^B - 1
 *
 * and what is left beside scale * y is measured, not estimated.  The record is
 *
 *		float norm			r = |x - c|
 *		float scale			r^2 / <x - c, y>
 *		float rest			|x - c - scale * y|, or a little more
 *		uint64 planes[]		B times ceil(D / 64) words: bit p of each u, lowest
 *							p first; padding bits zero
 *
 * With planes, the dot product of y and a query is a sum of popcounts again, by
 * the kernel that 1-bit codes use; the query gets four more bits, for what its
 * first four (quantize.h) leave.
 */
#ifndef WINNOW_REFINE_H
#define WINNOW_REFINE_H

#include "quantize.h"

#define WINNOW_MIN_REFINEMENT_BITS	2
#define WINNOW_MAX_REFINEMENT_BITS	8

/* Bytes of the head of a record, before its planes */
#define WINNOW_REFINEMENT_HEAD 12

/* Bytes of the record of a row */
static inline size_t
winnow_refinement_bytes(int dim, int bits)
{
	return WINNOW_REFINEMENT_HEAD +
		(size_t) bits * winnow_code_words(dim) * sizeof(uint64_t);
}

/*
 * Encode row x in the list of `centroid`, dim >= 1 floats each, with that many
 * bits per dimension, into winnow_refinement_bytes(dim, bits) bytes at record,
 * which need no alignment.  A row beyond the range of float gets an infinite
 * norm: nothing is known of its score.
 */
extern void winnow_refinement_encode(const float *x, const float *centroid, int dim,
									 int bits, uint8_t *record);

/*
 * How far a record's scale * y is from x - centroid: what its "rest" is to say,
 * or NaN for a broken record.
 */
extern double winnow_refinement_rest(const float *x, const float *centroid, int dim,
									 int bits, const uint8_t *record);

/* A query against one list; members are refine.c's own */
typedef struct WinnowRefinementQuery
{
	const WinnowQueryCode *coarse;	/* what the first four bits say */
	bool		usable;			/* false: nothing is known */
	double		step;			/* element i is (u[i] - 7.5) steps of coarse + (w[i] - 7.5) of
								 * these, w the four bits more */
	uint64_t	planes[];		/* of w, four times nwords; then dim floats */
} WinnowRefinementQuery;

/* Bytes of a WinnowRefinementQuery for dim >= 1 */
extern size_t winnow_refinement_query_bytes(int dim);

/*
 * Take a query that has been prepared for a list (winnow_query_prepare), and
 * stays as it is meanwhile, to four bits more.
 */
extern void winnow_refinement_prepare(WinnowRefinementQuery *query,
									  const WinnowQueryCode *coarse);

/*
 * Bound the score of a row of that list from below, and if estimate is not NULL
 * estimate it, by its record of so many bits.  epsilon is as in winnow_estimate,
 * and so is what is said where nothing is known.
 */
extern float winnow_refine(const WinnowRefinementQuery *query, const uint8_t *record,
						   int bits, float epsilon, float *estimate);

#endif							/* WINNOW_REFINE_H */
