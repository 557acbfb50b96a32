/*
 * refinement.c
 *		The pages with refinement codes (core/refine.h), if the index has them.
 *
 * Each group of a leaf has pages of its own for them, which no other group
 * shares: searches read few of them, and not one after the other, so that it does
 * not matter how many there are.  The records of the group's slots lie there
 * one behind the other, and go on from the end of one page to the next.
 */
#include "postgres.h"

#include "winnow.h"

#include <math.h>

/* Pages with the records of a group of nrows rows */
int
winnow_refinement_count(const WinnowLayout *layout, int nrows)
{
	return (nrows * layout->refinement_bytes + WINNOW_PAGE_USABLE - 1) / WINNOW_PAGE_USABLE;
}

/*
 * One piece of a slot's record: from byte "done" of it to the end of the page that
 * this is on.  Returns its bytes; *page is which of the group's pages, *offset
 * where in its contents.
 */
static int
piece(const WinnowLayout *layout, int slot, int done, int *page, int *offset)
{
	int			at = slot * layout->refinement_bytes + done;

	*page = at / WINNOW_PAGE_USABLE;
	*offset = at % WINNOW_PAGE_USABLE;
	return Min(layout->refinement_bytes - done, WINNOW_PAGE_USABLE - *offset);
}

/* The record of a row; of one whose vector is not known (NULL), one that claims nothing */
void
winnow_refinement_fill(const WinnowIndex *index, const float *vector, const float *centroid,
					   uint8 *record)
{
	const float unknown = INFINITY;

	if (vector != NULL)
		winnow_refinement_encode(vector, centroid, index->dims, index->bits, record);
	else
	{
		memset(record, 0, index->leaf.refinement_bytes);
		memcpy(record, &unknown, sizeof(unknown));
	}
}

/*
 * Write the pages of a group of a new node, whose rows are the nrows from
 * "start" on, to the given blocks.
 */
void
winnow_refinement_write(Relation rel, ForkNumber fork, const WinnowIndex *index,
						const float *centroid, const WinnowRows *rows, int start, int nrows,
						const BlockNumber *blocks, XLogRecPtr born, bool logged)
{
	const WinnowLayout *layout = &index->leaf;
	uint8	   *record = palloc(layout->refinement_bytes);
	PGAlignedBlock image;
	int			current = 0;

	winnow_page_init(image.data, WINNOW_PAGE_DATA, born);
	for (int slot = 0; slot < nrows; slot++)
	{
		int			row = start + slot;

		winnow_refinement_fill(index,
							   row < rows->nknown ?
								   rows->vectors + (Size) row * index->dims :
								   NULL,
							   centroid, record);
		for (int done = 0; done < layout->refinement_bytes;)
		{
			int			page;
			int			offset;
			int			bytes = piece(layout, slot, done, &page, &offset);

			if (page != current)
			{
				winnow_page_write(rel, fork, blocks[current], image.data, logged);
				winnow_page_init(image.data, WINNOW_PAGE_DATA, born);
				current = page;
			}
			memcpy(PageGetContents(image.data) + offset, record + done, bytes);
			winnow_data_set_end(image.data, offset + bytes);
			done += bytes;
		}
	}
	if (nrows > 0)
		winnow_page_write(rel, fork, blocks[current], image.data, logged);
	pfree(record);
}

/*
 * Write the record for the row that the room is for.  Nothing refers to it until
 * winnow_room_fill_row, so that each of its pages has a WAL record of its own.
 */
void
winnow_refinement_add(Relation rel, WinnowRoom *room, const uint8 *record)
{
	const WinnowLayout *layout = room->layout;
	WinnowGroup *group = WinnowPageGetGroup(BufferGetPage(room->group));

	for (int done = 0; done < layout->refinement_bytes;)
	{
		int			page;
		int			offset;
		int			bytes = piece(layout, room->slot, done, &page, &offset);
		int			known = group->nrefinement + room->nrefinement;
		bool		is_new = page == known;
		Buffer		buffer;
		GenericXLogState *xlog;
		Page		image;

		if (page > known || page >= layout->max_refinement)
			winnow_corrupted(rel, BufferGetBlockNumber(room->group),
							 "A row has no refinement code.");
		buffer = is_new ?
			winnow_allocate(rel) :
			winnow_read_page(rel,
							 page < group->nrefinement ?
								 winnow_refinement_blocks(layout, group)[page] :
								 room->refinement[page - group->nrefinement],
							 WINNOW_PAGE_DATA, BUFFER_LOCK_EXCLUSIVE);
		xlog = GenericXLogStart(rel);
		image = GenericXLogRegisterBuffer(xlog, buffer, is_new ? GENERIC_XLOG_FULL_IMAGE : 0);
		if (is_new)
		{
			winnow_page_init(image, WINNOW_PAGE_DATA, winnow_birth(rel));
			room->refinement[room->nrefinement++] = BufferGetBlockNumber(buffer);
		}
		memcpy(PageGetContents(image) + offset, record + done, bytes);
		winnow_data_set_end(image, offset + bytes);
		GenericXLogFinish(xlog);
		UnlockReleaseBuffer(buffer);
		done += bytes;
	}
}

/*
 * Read the record of a slot, given its group's pages.  asof is as in
 * winnow_try_read_page; returns false if a page is gone.
 */
bool
winnow_refinement_read(Relation rel, const WinnowLayout *layout, BlockNumber head,
					   const BlockNumber *blocks, int nblocks, int slot, XLogRecPtr asof,
					   uint8 *record)
{
	for (int done = 0; done < layout->refinement_bytes;)
	{
		int			page;
		int			offset;
		int			bytes = piece(layout, slot, done, &page, &offset);
		Buffer		buffer;

		if (page >= nblocks)
			winnow_corrupted(rel, head, "A row has no refinement code.");
		buffer = winnow_try_read_page(rel, blocks[page], WINNOW_PAGE_DATA, asof,
									  BUFFER_LOCK_SHARE);
		if (BufferIsInvalid(buffer))
			return false;
		memcpy(record + done, PageGetContents(BufferGetPage(buffer)) + offset, bytes);
		UnlockReleaseBuffer(buffer);
		done += bytes;
	}
	return true;
}
