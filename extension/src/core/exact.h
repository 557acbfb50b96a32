/*
 * exact.h
 *		Exact nearest neighbours by looking at every row: the ground truth
 *		that recall is measured against.
 */
#ifndef WINNOW_EXACT_H
#define WINNOW_EXACT_H

#include <stddef.h>
#include <stdint.h>

#include "distance.h"

/* out[i] = the distance of query and row i of base, i < n, as a float. */
extern void winnow_distances(WinnowDistance kind, const float *query,
							 const float *base, int64_t n, int dim, float *out);

/*
 * The k nearest of n base rows for each of nqueries queries, nearest first,
 * equal distances by row number.  NaN is farther than anything.
 *
 * mask: NULL, or a byte per base row, not zero where the row counts; query q
 * reads it at mask + q * mask_stride (0: one mask for all).  ids and distances:
 * nqueries * k out, filled up with -1 and infinity where fewer rows count.
 */
extern void winnow_exact_topk(WinnowDistance kind, const float *queries,
							  int nqueries, const float *base, int64_t n,
							  int dim, int k, const uint8_t *mask,
							  size_t mask_stride, int64_t *ids,
							  float *distances);

#endif							/* WINNOW_EXACT_H */
