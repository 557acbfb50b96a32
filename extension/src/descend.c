/*
 * descend.c
 *		The way from the root to the leaf that a vector belongs to.
 *
 * At each level the children that look nearest by their codes are compared by
 * their exact centroids.  No lock is held between pages: whoever writes checks
 * under the lock that the path is still current.
 */
#include "postgres.h"

#include "winnow.h"

#include <math.h>

#include "kernels/kernels.h"

/* Children per level whose exact centroids are read */
#define NEAREST_CHILDREN 8

typedef struct NearChild
{
	float		estimate;
	WinnowStep	step;
} NearChild;

struct WinnowDescent
{
	Relation	rel;
	const WinnowIndex *index;
	WinnowView *view;
	WinnowQueryCode *query;
	float	   *centroid;
	float	   *estimate;
	float	   *lower;
};

WinnowDescent *
winnow_descent_begin(Relation rel, const WinnowIndex *index)
{
	WinnowDescent *descent = palloc(sizeof(WinnowDescent));

	descent->rel = rel;
	descent->index = index;
	descent->view = winnow_view_alloc(index);
	descent->query = palloc(winnow_query_bytes(index->dims));
	descent->centroid = palloc(sizeof(float) * index->dims);
	descent->estimate = palloc(sizeof(float) * index->inner.capacity);
	descent->lower = palloc(sizeof(float) * index->inner.capacity);
	return descent;
}

/* Keep a child if it is among the nearest so far; near[] is sorted */
static int
keep_near(NearChild *near, int nnear, float estimate, const WinnowStep *step)
{
	int			i;

	if (nnear == NEAREST_CHILDREN)
	{
		if (!(estimate < near[nnear - 1].estimate))
			return nnear;
		nnear--;
	}
	for (i = nnear; i > 0 && near[i - 1].estimate > estimate; i--)
		near[i] = near[i - 1];
	near[i].estimate = estimate;
	near[i].step = *step;
	return nnear + 1;
}

/*
 * Find the children of an inner node that look nearest.  view holds the node's
 * first group, and is used for the others.
 */
static int
nearest_children(WinnowDescent *descent, BlockNumber node, const float *vector,
				 NearChild *near)
{
	const WinnowIndex *index = descent->index;
	WinnowView *view = descent->view;
	int			level = view->level;
	int			nnear = 0;

	/* assignment is by Euclidean distance, whatever the metric */
	winnow_centroid_read(descent->rel, index, view->data, view->ndata, InvalidXLogRecPtr,
						 descent->centroid);
	winnow_query_prepare(descent->query, WINNOW_METRIC_L2, vector, descent->centroid,
						 index->dims);
	for (;;)
	{
		winnow_view_estimate(descent->rel, index, view, descent->query, 0,
							 descent->estimate, descent->lower, NULL, NULL);
		for (int i = 0; i < view->nselected; i++)
		{
			WinnowStep	step = {node, view->block, view->selected[i],
			(BlockNumber) view->ids[i]};

			nnear = keep_near(near, nnear, descent->estimate[i], &step);
		}
		if (!BlockNumberIsValid(view->next))
			break;
		winnow_view_read(descent->rel, index, view->next, level, InvalidXLogRecPtr, NULL, view);
	}
	if (nnear == 0)
		winnow_corrupted(descent->rel, node, "An inner node has no children.");
	return nnear;
}

/*
 * Find the leaf nearest to a vector in index space, and the way to it.
 */
void
winnow_descend(WinnowDescent *descent, const float *vector, WinnowPath *path)
{
	Relation	rel = descent->rel;
	WinnowView *view = descent->view;
	BlockNumber node = winnow_read_root(rel, NULL);

	path->nsteps = 0;
	winnow_view_read(rel, descent->index, node, -1, InvalidXLogRecPtr, NULL, view);
	while (view->level > 0)
	{
		NearChild	near[NEAREST_CHILDREN];
		int			level = view->level;
		int			nnear = nearest_children(descent, node, vector, near);
		float		best_distance = INFINITY;
		int			best = 0;

		/* the centroid usually is on the page behind the first head page */
		for (int i = 0; i < nnear; i++)
			for (int page = 0; page < 2; page++)
				winnow_prefetch(rel, near[i].step.child + page, 0, WINNOW_RUN_AHEAD);
		for (int i = 0; i < nnear; i++)
		{
			float		distance;

			winnow_node_centroid(rel, descent->index, near[i].step.child, level - 1,
								 descent->centroid, NULL);
			distance = winnow_kernels->l2_squared(vector, descent->centroid,
												  descent->index->dims);
			if (distance < best_distance)
			{
				best_distance = distance;
				best = i;
			}
		}
		path->squared[path->nsteps] = best_distance;
		path->steps[path->nsteps++] = near[best].step;
		node = near[best].step.child;
		if (level > 1)
			winnow_view_read(rel, descent->index, node, level - 1, InvalidXLogRecPtr,
							 NULL, view);
		else
			break;
	}
	path->leaf = node;
}
