/*
 * merge.c
 *		A tree that rows were deleted from: small nodes are merged, empty ones
 *		dropped, summaries made narrower, a root with one child given up.
 *
 * All of it is done by VACUUM, which holds the structure lock.
 */
#include "postgres.h"

#include "fetch.h"
#include "owner.h"

#include <math.h>

#include "access/transam.h"
#include "access/xact.h"
#include "commands/vacuum.h"
#include "core/mean.h"
#include "kernels/kernels.h"

/* Nodes with fewer rows than this share of what a build makes are merged ... */
#define SMALL_SHARE 8
#define LEAST_ROWS 3

/* ... if the result has at most this part of it, so that it is not split soon */
#define MERGED_PART(size) ((size) - (size) / 4)

typedef struct Merge
{
	Relation	rel;
	Relation	heap;
	const WinnowIndex *index;
	WinnowChild *children;
	int			nchildren;
	int			nleft;			/* of them that there still are */
	int			size;			/* rows that a build puts into one at most */
	float	   *centroids;		/* theirs; NULL until they are needed */
} Merge;

/* All rows go to one node */
static int
part_none(const WinnowIndex *index, int level, const WinnowRows *rows, WinnowRows *parts)
{
	parts[0] = *rows;
	return 1;
}

static void
read_centroid(Merge *merge, int child)
{
	winnow_node_centroid(merge->rel, merge->index, merge->children[child].step.child, -1,
						 merge->centroids + (Size) child * merge->index->dims, NULL);
}

static void
read_centroids(Merge *merge)
{
	merge->centroids = palloc_extended(sizeof(float) * merge->index->dims * merge->nchildren,
									   MCXT_ALLOC_HUGE);
	for (int i = 0; i < merge->nchildren; i++)
		if (merge->children[i].size > 0)
			read_centroid(merge, i);
}

/* The nearest child that a small one may be merged with, or -1 */
static int
find_partner(Merge *merge, int small)
{
	const WinnowChild *children = merge->children;
	int			dims = merge->index->dims;
	float		best_distance = INFINITY;
	int			best = -1;

	if (merge->centroids == NULL)
		read_centroids(merge);
	for (int i = 0; i < merge->nchildren; i++)
	{
		float		distance;

		if (i == small || children[i].size <= 0 ||
			children[i].size + children[small].size > MERGED_PART(merge->size))
			continue;
		distance = winnow_kernels->l2_squared(merge->centroids + (Size) small * dims,
											  merge->centroids + (Size) i * dims, dims);
		if (distance < best_distance || best < 0)
		{
			best_distance = distance;
			best = i;
		}
	}
	return best;
}

/* Merge two children; the first in the parent's chain stands for both then */
static bool
merge_two(Merge *merge, int a, int b)
{
	WinnowReplacement wanted = {0};
	WinnowChild *first = &merge->children[Min(a, b)];
	WinnowChild *second = &merge->children[Max(a, b)];

	wanted.rel = merge->rel;
	wanted.heap = merge->heap;
	wanted.index = merge->index;
	wanted.nold = 2;
	wanted.steps[0] = first->step;
	wanted.steps[1] = second->step;
	wanted.old[0] = first->step.child;
	wanted.old[1] = second->step.child;
	wanted.part = part_none;
	if (!winnow_replace(&wanted))
		return false;
	first->step.child = wanted.new[0];
	first->size += second->size;
	first->fresh = true;
	second->size = -1;
	merge->nleft--;
	read_centroid(merge, Min(a, b));
	return true;
}

/* Drop an empty child, unless a row has come meanwhile */
static bool
drop(Merge *merge, WinnowChild *child)
{
	WinnowReplacement wanted = {0};

	wanted.rel = merge->rel;
	wanted.heap = merge->heap;
	wanted.index = merge->index;
	wanted.nold = 1;
	wanted.steps[0] = child->step;
	wanted.old[0] = child->step.child;
	if (!winnow_replace(&wanted))
		return false;
	child->size = -1;
	merge->nleft--;
	return true;
}

/*
 * Can the vectors of a level's rows be had?  If those of the table are values of
 * an index expression, not in a parallel VACUUM, where the user's functions may be
 * such as cannot run; not in autovacuum, which must not fail time and again
 * because they do; and not for a user who may not have them run (owner.c).
 */
bool
winnow_vectors_available(Relation heap, Relation rel, const WinnowIndex *index, int level)
{
	return level > 0 || !winnow_vector_computed(rel, index) ||
		(!IsInParallelMode() && !winnow_is_autovacuum() && winnow_may_run(heap, rel));
}

/*
 * Merge or drop the children of an inner node that have lost rows and are small
 * now; they may have lost them to a VACUUM that did not come to this.  level is
 * that of the children, which are in the order of the node's chain.  Those that
 * are no more have a size below 0 afterwards, and the new ones are marked as
 * fresh.  Returns whether there are any.
 */
bool
winnow_merge_children(Relation rel, Relation heap, const WinnowIndex *index, int level,
					  WinnowChild *children, int nchildren)
{
	int			size = winnow_layout(index, level)->size;
	Merge		merge = {rel, heap, index, children, nchildren, nchildren, size, NULL};
	int			small = Max(size / SMALL_SHARE, LEAST_ROWS);
	bool		merges = winnow_vectors_available(heap, rel, index, level);

	for (int i = 0; i < nchildren; i++)
	{
		winnow_vacuum_delay();
		if (children[i].holes && children[i].size == 0 && merge.nleft > 1)
			drop(&merge, &children[i]);
		while (merges && children[i].holes && children[i].size > 0 && children[i].size < small)
		{
			int			partner = find_partner(&merge, i);

			if (partner < 0 || !merge_two(&merge, i, partner))
				break;
			/* the other one may stand for both */
			children[Min(i, partner)].holes = true;
		}
	}
	if (merge.centroids)
		pfree(merge.centroids);
	return merge.nleft < nchildren;
}

/* How far a node's rows are from its centroid, as winnow_mean_radius2 wants it */
typedef struct Distances
{
	int			count;
	int			allocated;
	double	   *squared;
	double	   *weights;
	double	   *below;
} Distances;

static void
add_distance(Distances *distances, double squared, const WinnowChildStats *child)
{
	if (distances->count == distances->allocated)
	{
		int			wanted = Max(2 * distances->allocated, 512);
		double	  **arrays[] = {&distances->squared, &distances->weights, &distances->below};

		for (int a = 0; a < (int) lengthof(arrays); a++)
			*arrays[a] = *arrays[a] == NULL ? palloc(sizeof(double) * wanted) :
				repalloc_huge(*arrays[a], sizeof(double) * wanted);
		distances->allocated = wanted;
	}
	distances->squared[distances->count] = squared;
	distances->weights[distances->count] = Max(child->rows, 1);
	distances->below[distances->count] = child->radius2;
	distances->count++;
}

/* Their mean, but for outliers; the memory is given back */
static float
mean_distance(const WinnowIndex *index, Distances *distances)
{
	int			n = distances->count;
	double	   *scratch;
	float		mean;

	if (n == 0)
		return 0;
	scratch = palloc_extended(sizeof(double) * 2 * n, MCXT_ALLOC_HUGE);
	mean = winnow_mean_radius2(index, n, distances->squared, distances->weights, distances->below,
							   winnow_far(distances->squared, distances->weights, distances->below, n,
									   scratch));
	pfree(scratch);
	pfree(distances->squared);
	pfree(distances->weights);
	pfree(distances->below);
	return mean;
}

/* The row of a child as it would be written now */
static void
describe_child(Relation rel, const WinnowIndex *index, Buffer first, uint8 *image)
{
	int			level = WinnowPageGetGroup(BufferGetPage(first))->level;
	const WinnowLayout *layout = winnow_layout(index, level);
	uint8		row[WINNOW_MAX_CHILD_IMAGE];
	float	   *norm2 = palloc(sizeof(float) * layout->capacity);
	WinnowChildStats stats = {0};
	Distances	distances = {0};
	WinnowChain chain;
	Buffer		buffer = first;
	BlockNumber next;

	winnow_summary_reset(&index->schema, image + sizeof(stats));
	winnow_imprint_reset(&index->schema, image + index->inner.imprint_offset, level);
	winnow_chain_start(&chain, BufferGetBlockNumber(first));
	for (;;)
	{
		Page		page = BufferGetPage(buffer);

		winnow_chain_follow(rel, &chain, BufferGetBlockNumber(buffer), page);
		winnow_group_norms(rel, index, page, norm2);
		for (int slot = 0; slot < WinnowPageGetGroup(page)->nrows; slot++)
		{
			WinnowChildStats below;

			if (!winnow_is_live(layout, BufferGetPage(first), page, slot))
				continue;
			winnow_row_image(layout, page, slot, row);
			below = winnow_describe_row(index, level, row, &stats, image);
			winnow_stats_reach(index, &stats, norm2[slot] + (double) below.farthest2);
			if (!isinf(norm2[slot]))
				add_distance(&distances, norm2[slot], &below);
		}
		next = WinnowPageGetGroup(page)->next;
		if (buffer != first)
			UnlockReleaseBuffer(buffer);
		if (!BlockNumberIsValid(next))
			break;
		buffer = winnow_read_head(index, rel, next, level, BUFFER_LOCK_SHARE);
	}
	pfree(norm2);
	stats.radius2 = mean_distance(index, &distances);
	if (stats.rows > 0)
		memcpy(image, &stats, sizeof(stats));
}

/* Bring a node's pages into memory, so that its parent need not be locked while they come */
static void
warm_up(Relation rel, const WinnowIndex *index, BlockNumber node)
{
	WinnowView *view = winnow_view_alloc(index);

	for (BlockNumber block = node; BlockNumberIsValid(block); block = view->next)
	{
		winnow_vacuum_delay();
		winnow_view_read(rel, index, block, -1, InvalidXLogRecPtr, NULL, view);
		for (int d = 0; d < view->ndata; d++)
			PrefetchBuffer(rel, MAIN_FORKNUM, view->data[d]);
		for (int d = 0; d < view->ndata; d++)
			ReleaseBuffer(ReadBuffer(rel, view->data[d]));
	}
	winnow_view_free(view);
}

/*
 * Bring what a parent says of a child up to date: no wider a summary than its
 * rows need, their number, and how far they are from its centroid.  With the parent's first head page locked
 * exclusively nobody can be about to add a row (insert.c: lock_path), and with
 * the child's nobody widens what the child says.  Returns whether that has
 * changed anything.
 */
bool
winnow_tighten(Relation rel, const WinnowIndex *index, const WinnowStep *step)
{
	uint8		old[WINNOW_MAX_CHILD_IMAGE];
	uint8		new[WINNOW_MAX_CHILD_IMAGE];
	bool		same = step->group == step->node;
	Buffer		first;
	Buffer		group;
	Buffer		child;
	bool		changed;

	warm_up(rel, index, step->child);
	first = winnow_read_head(index, rel, step->node, -1, BUFFER_LOCK_EXCLUSIVE);
	group = same ? first : winnow_read_head(index, rel, step->group, -1, BUFFER_LOCK_EXCLUSIVE);
	child = winnow_read_head(index, rel, step->child, -1, BUFFER_LOCK_EXCLUSIVE);

	if (!winnow_step_holds(index, step, first, group))
		winnow_corrupted(rel, step->group, "A child has left it during VACUUM.");
	winnow_row_image(&index->inner, BufferGetPage(group), step->slot, old);
	winnow_imprint_read(rel, index, BufferGetPage(group), step->group, step->slot, old);
	memcpy(new, old, index->inner.image_bytes);
	describe_child(rel, index, child, new);
	changed = memcmp(new, old, index->inner.image_bytes) != 0;
	if (changed)
	{
		GenericXLogState *xlog = GenericXLogStart(rel);

		winnow_row_set_image(&index->inner, GenericXLogRegisterBuffer(xlog, group, 0),
							 step->slot, new);
		GenericXLogFinish(xlog);
		winnow_imprint_replace(rel, index, group, step->slot, new);
	}
	UnlockReleaseBuffer(child);
	winnow_step_unlock(first, group);
	if (changed)
	{
		WinnowChildStats stats;

		memcpy(&stats, new, sizeof(stats));
		elog(DEBUG2, "winnow: below block %u there are %u rows, at a mean squared distance of %g",
			 step->child, stats.rows, stats.radius2);
	}
	return changed;
}

/* Live rows of a node, whose first head page is locked */
static int
count_rows(Relation rel, const WinnowIndex *index, BlockNumber node, BlockNumber *some)
{
	WinnowView *view = winnow_view_alloc(index);
	int			count = 0;

	for (BlockNumber block = node; BlockNumberIsValid(block); block = view->next)
	{
		winnow_view_read(rel, index, block, -1, InvalidXLogRecPtr, NULL, view);
		if (view->level == 0)
			break;
		count += view->nlive;
		if (view->nselected > 0)
			*some = (BlockNumber) view->ids[0];
	}
	winnow_view_free(view);
	return count;
}

/* As long as the root has a single child, that becomes the root */
void
winnow_lower_root(Relation rel, const WinnowIndex *index)
{
	BlockNumber root = winnow_read_root(rel, NULL);
	BlockNumber child = InvalidBlockNumber;

	while (count_rows(rel, index, root, &child) == 1)
	{
		Buffer		first = winnow_read_head(index, rel, root, -1, BUFFER_LOCK_EXCLUSIVE);
		Buffer		meta = winnow_read_page(rel, WINNOW_META_BLOCK, WINNOW_PAGE_META,
											BUFFER_LOCK_EXCLUSIVE);
		GenericXLogState *xlog = GenericXLogStart(rel);
		WinnowGroup *group = WinnowPageGetGroup(GenericXLogRegisterBuffer(xlog, first, 0));
		uint32		npages = winnow_group_pages(&index->inner, group);

		/* with the meta page locked nobody starts from the old root any more */
		winnow_group_retire(group);
		WinnowPageGetMeta(GenericXLogRegisterBuffer(xlog, meta, 0))->root = child;
		GenericXLogFinish(xlog);
		UnlockReleaseBuffer(meta);
		UnlockReleaseBuffer(first);
		winnow_count_retired(rel, npages);
		root = child;
	}
}
