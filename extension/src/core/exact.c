/*
 * exact.c
 *		Exact nearest neighbours by looking at every row; see exact.h.
 */
#include <math.h>

#include "exact.h"

/* Bytes of base rows that all queries look at before the next ones are read. */
#define BLOCK_BYTES (128 * 1024)

void
winnow_distances(WinnowDistance kind, const float *query, const float *base,
				 int64_t n, int dim, float *out)
{
	for (int64_t i = 0; i < n; i++)
		out[i] = (float) winnow_distance(kind, query, base + i * dim, dim);
}

/*
 * The best rows so far are a binary heap, the worst on top, within the arrays
 * of the answer.  Rows that were never found have id -1 and count as worst.
 */
static int
worse(float distance_a, int64_t id_a, float distance_b, int64_t id_b)
{
	if (id_a < 0 || id_b < 0)
		return id_b >= 0;
	if (isnan(distance_a) || isnan(distance_b))
		return isnan(distance_a) && (!isnan(distance_b) || id_a > id_b);
	return distance_a > distance_b || (distance_a == distance_b && id_a > id_b);
}

/* Put a row on top of a heap of `size`, and let it sink to its place. */
static void
replace_top(float *distances, int64_t *ids, int size, float distance,
			int64_t id)
{
	int			at = 0;

	for (;;)
	{
		int			child = 2 * at + 1;

		if (child >= size)
			break;
		if (child + 1 < size && worse(distances[child + 1], ids[child + 1],
									  distances[child], ids[child]))
			child++;
		if (!worse(distances[child], ids[child], distance, id))
			break;
		distances[at] = distances[child];
		ids[at] = ids[child];
		at = child;
	}
	distances[at] = distance;
	ids[at] = id;
}

/* Turn a heap into a list, the best first. */
static void
sort_heap(float *distances, int64_t *ids, int size)
{
	for (int last = size - 1; last > 0; last--)
	{
		float		distance = distances[last];
		int64_t		id = ids[last];

		distances[last] = distances[0];
		ids[last] = ids[0];
		replace_top(distances, ids, last, distance, id);
	}
}

void
winnow_exact_topk(WinnowDistance kind, const float *queries, int nqueries,
				  const float *base, int64_t n, int dim, int k,
				  const uint8_t *mask, size_t mask_stride, int64_t *ids,
				  float *distances)
{
	int64_t		block = BLOCK_BYTES / ((int64_t) dim * sizeof(float)) + 1;

	for (size_t i = 0; i < (size_t) nqueries * k; i++)
	{
		ids[i] = -1;
		distances[i] = INFINITY;
	}

	for (int64_t start = 0; start < n; start += block)
	{
		int64_t		end = start + block < n ? start + block : n;

		for (int q = 0; q < nqueries; q++)
		{
			const float *query = queries + (size_t) q * dim;
			const uint8_t *wanted = mask ? mask + q * mask_stride : NULL;
			float	   *best = distances + (size_t) q * k;
			int64_t    *best_ids = ids + (size_t) q * k;

			for (int64_t row = start; row < end; row++)
			{
				float		distance;

				if (wanted != NULL && !wanted[row])
					continue;
				distance = (float) winnow_distance(kind, query, base + row * dim, dim);
				if (worse(best[0], best_ids[0], distance, row))
					replace_top(best, best_ids, k, distance, row);
			}
		}
	}

	for (int q = 0; q < nqueries; q++)
		sort_heap(distances + (size_t) q * k, ids + (size_t) q * k, k);
}
