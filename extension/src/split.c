/*
 * split.c
 *		A node that is too full becomes two.
 *
 * What replaces a node in the tree is replace.c's matter (DESIGN.md, section 6).
 */
#include "postgres.h"

#include "fetch.h"
#include "owner.h"

#include "core/kmeans.h"
#include "miscadmin.h"

/*
 * Part the rows in two by 2-means; those without a known vector are
 * shared out.  Returns 0 if there is too little to go by.
 */
int
winnow_part_rows(const WinnowIndex *index, int level, const WinnowRows *rows, WinnowRows *parts)
{
	const WinnowLayout *layout = winnow_layout(index, level);
	uint8	   *side = palloc(Max(rows->count, 1));
	float	   *centroids = palloc(sizeof(float) * 2 * index->dims);
	void	   *scratch = palloc_extended(winnow_split_scratch_bytes(Max(rows->nknown, 1), index->dims),
										  MCXT_ALLOC_HUGE);
	int			nsecond = 0;

	if (rows->nknown < 2)
		return 0;
	winnow_split_two(rows->vectors, rows->nknown, index->dims, rows->nknown, centroids,
					 side, scratch, winnow_check_interrupts, NULL);
	for (int i = rows->nknown; i < rows->count; i++)
		side[i] = i % 2;
	for (int i = 0; i < rows->count; i++)
		nsecond += side[i];
	winnow_rows_allocate(index, level, &parts[0], rows->count - nsecond);
	winnow_rows_allocate(index, level, &parts[1], nsecond);
	for (int i = 0; i < rows->count; i++)
	{
		WinnowRows *part = &parts[side[i]];

		if (i < rows->nknown)
			memcpy(part->vectors + (Size) part->nknown++ * index->dims,
				   rows->vectors + (Size) i * index->dims, sizeof(float) * index->dims);
		winnow_rows_add(index, level, part, rows->ids[i],
				rows->images + (Size) i * layout->image_bytes);
	}
	pfree(scratch);
	pfree(centroids);
	pfree(side);
	return 2;
}

/* Do the steps still lead from the root to the leaf? */
static bool
path_is_current(Relation rel, const WinnowIndex *index, const WinnowPath *path)
{
	BlockNumber node = winnow_read_root(rel, NULL);

	for (int i = 0; i < path->nsteps; i++)
	{
		Buffer		first;
		Buffer		group;

		if (path->steps[i].node != node ||
			!winnow_step_lock(rel, index, &path->steps[i], BUFFER_LOCK_SHARE, &first, &group))
			return false;
		winnow_step_unlock(first, group);
		node = path->steps[i].child;
	}
	return node == path->leaf;
}

/*
 * Split the leaf at the end of the path, and then its ancestors as far as they have
 * become too full.  Does nothing if another split or a vacuum is under way, or the
 * path is out of date: a later insert into the leaf tries again.  (To wait for
 * autovacuum would cancel it.)  Nor where the user may not have the vectors computed.
 * No buffer may be locked.
 */
void
winnow_split(Relation rel, Relation heap, const WinnowIndex *index, const WinnowPath *path)
{
	WinnowReplacement split = {0};
	WinnowUser	user;
	bool		computed = winnow_vector_computed(rel, index);
	int			depth = path->nsteps;

	WINNOW_WAIT_POINT("split");
	if ((computed && !winnow_may_run(heap, rel)) || !winnow_structure_try_lock(rel))
		return;

	/*
	 * An index expression is evaluated for rows that the user need not be allowed to
	 * see (owner.c).
	 */
	if (computed)
		winnow_become_owner(heap, &user);
	if (path_is_current(rel, index, path))
	{
		split.rel = rel;
		split.heap = heap;
		split.index = index;
		split.nold = 1;
		split.part = winnow_part_rows;
		do
		{
			split.old[0] = depth == path->nsteps ? path->leaf : path->steps[depth].node;
			split.is_root = depth == 0;
			if (depth > 0)
				split.steps[0] = path->steps[depth - 1];
			depth--;
		} while (winnow_replace(&split) && !split.is_root &&
				 split.nchildren > index->inner.size);
	}
	if (computed)
		winnow_become_user(&user);
	winnow_structure_unlock(rel);
}
