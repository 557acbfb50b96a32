/*
 * kmeans.h
 *		k-means clustering, and the balanced split of a list in two.
 *
 * Vectors are finite floats; distances between them may overflow to infinity,
 * which is treated as very far.  Everything is deterministic for a seed and a
 * SIMD level.  The caller supplies all memory.  A tick may leave by longjmp:
 * nothing here is held.
 */
#ifndef WINNOW_KMEANS_H
#define WINNOW_KMEANS_H

#include <stddef.h>
#include <stdint.h>

/*
 * Called every few milliseconds of work, to serve interrupts.  NULL where
 * there is nothing to serve.
 */
typedef void (*WinnowTick) (void *arg);

/* Bytes of scratch for winnow_kmeans, which need 8-byte alignment. */
extern size_t winnow_kmeans_scratch_bytes(int n, int dim, int k);

/*
 * Cluster n rows of dim floats, one after the other, around 1 <= k <= n
 * centroids by Lloyd's algorithm.
 *
 * Seeds are drawn by k-means++ (Arthur and Vassilvitskii, SODA 2007) from a
 * subsample, and the iterations, `iterations` at most, run on a sample of at
 * most 64 rows per centroid.  A cluster that runs empty restarts at the row that
 * is farthest from its centroid.  At the end every row is assigned to its
 * nearest centroid; a cluster may get no row where rows are equal.
 *
 * centroids: k * dim floats out; assign: n cluster numbers out.
 */
extern void winnow_kmeans(const float *rows, int n, int dim, int k,
						  int iterations, uint64_t seed, float *centroids,
						  int32_t *assign, void *scratch, WinnowTick tick,
						  void *arg);

/*
 * The nearest of k >= 1 centroids (the first of equals) and its squared
 * distance.  scratch: k floats, the squared distances of all on return.
 */
extern void winnow_nearest(const float *row, const float *centroids, int k,
						   int dim, int *best, float *distance, float *scratch);

/* Bytes of scratch for winnow_split_two, which need 8-byte alignment. */
extern size_t winnow_split_scratch_bytes(int n, int dim);

/*
 * Split n >= 1 rows in two by 2-means: each side gets at least n / 8
 * rows, and rows that nothing tells apart are shared out evenly.  Where one of two clusters is
 * smaller than that, the other one is split.
 *
 * side: n times 0 or 1 out; centroids: the mean of side 0, then of side 1, but for
 * outliers (mean.h), if they are too few for a side, and such a cluster (for n = 1 both are the row).
 */
extern void winnow_split_two(const float *rows, int n, int dim, uint64_t seed,
							 float *centroids, uint8_t *side, void *scratch,
							 WinnowTick tick, void *arg);

#endif							/* WINNOW_KMEANS_H */
