/*
 * record.c
 *		The pages with what is longer than a column and is not looked at of all rows.
 *
 * Of a leaf's rows that is their refinement codes (core/refine.h), if the index
 * has them, of an inner node's the imprints of the children (imprint.c).  Each
 * group has pages of its own for these records, which no other group shares:
 * searches do without most of them, so that it matters little how many pages there
 * are.
 * The records of the group's slots lie there one behind the other.  Refinement
 * codes go on from the end of one page to the next; imprints do not, as a search
 * looks at many of a page.
 */
#include "postgres.h"

#include "winnow.h"

#include <math.h>

/* Pages with the records of a group of nrows rows */
int
winnow_record_page_count(const WinnowLayout *layout, int nrows)
{
	if (layout->record_bytes > 0 && layout->records_per_page > 0)
		return (nrows + layout->records_per_page - 1) / layout->records_per_page;
	return (nrows * layout->record_bytes + WINNOW_PAGE_USABLE - 1) / WINNOW_PAGE_USABLE;
}

/* Where on one of the pages with the records of nrows rows what is on it ends, from the start of its contents */
int
winnow_record_page_end(const WinnowLayout *layout, int page, int nrows)
{
	if (layout->records_per_page > 0)
		return layout->record_bytes *
			Min(nrows - page * layout->records_per_page, layout->records_per_page);
	return Min(nrows * layout->record_bytes - page * WINNOW_PAGE_USABLE, WINNOW_PAGE_USABLE);
}

/*
 * One piece of a slot's record: from byte "done" of it to the end of the page that
 * this is on.  Returns its bytes; *page is which of the group's pages, *offset
 * where in its contents.
 */
static int
piece(const WinnowLayout *layout, int slot, int done, int *page, int *offset)
{
	int			at = slot * layout->record_bytes + done;

	if (layout->records_per_page > 0)
	{
		*page = slot / layout->records_per_page;
		*offset = slot % layout->records_per_page * layout->record_bytes + done;
		return layout->record_bytes - done;
	}
	*page = at / WINNOW_PAGE_USABLE;
	*offset = at % WINNOW_PAGE_USABLE;
	return Min(layout->record_bytes - done, WINNOW_PAGE_USABLE - *offset);
}

/* The refinement code of a row; of one whose vector is not known (NULL), one that claims nothing */
void
winnow_record_refine(const WinnowIndex *index, const float *vector, const float *centroid,
					 uint8 *record)
{
	const float unknown = INFINITY;

	if (vector != NULL)
		winnow_refinement_encode(vector, centroid, index->dims, index->bits, record);
	else
	{
		memset(record, 0, index->leaf.record_bytes);
		memcpy(record, &unknown, sizeof(unknown));
	}
}

/*
 * Write the pages of a group of a new node, whose rows are the nrows from
 * "start" on, to the given blocks.
 */
void
winnow_records_write(const WinnowNodeWriter *writer, int start, int nrows, const BlockNumber *blocks)
{
	const WinnowIndex *index = writer->index;
	const WinnowRows *rows = writer->rows;
	const WinnowLayout *layout = winnow_layout(index, writer->level);
	uint8	   *code = palloc(layout->record_bytes);
	PGAlignedBlock image;
	int			current = 0;

	winnow_page_init(image.data, WINNOW_PAGE_DATA, writer->born);
	for (int slot = 0; slot < nrows; slot++)
	{
		int			row = start + slot;
		const uint8 *record = code;

		if (writer->level > 0)
			record = rows->images + (Size) row * layout->image_bytes + layout->imprint_offset;
		else
			winnow_record_refine(index,
								 row < rows->nknown ?
									 rows->vectors + (Size) row * index->dims :
									 NULL,
								 writer->centroid, code);
		for (int done = 0; done < layout->record_bytes;)
		{
			int			page;
			int			offset;
			int			bytes = piece(layout, slot, done, &page, &offset);

			if (page != current)
			{
				winnow_page_write(writer->rel, writer->fork, blocks[current], image.data, writer->logged);
				winnow_page_init(image.data, WINNOW_PAGE_DATA, writer->born);
				current = page;
			}
			memcpy(PageGetContents(image.data) + offset, record + done, bytes);
			winnow_data_set_end(image.data, offset + bytes);
			done += bytes;
		}
	}
	if (nrows > 0)
		winnow_page_write(writer->rel, writer->fork, blocks[current], image.data, writer->logged);
	pfree(code);
}

/*
 * Write the record for the row that the room is for.  Nothing refers to it until
 * winnow_room_fill_row, so that each of its pages has a WAL record of its own.
 */
void
winnow_record_add(Relation rel, WinnowRoom *room, const uint8 *record)
{
	const WinnowLayout *layout = room->layout;
	WinnowGroup *group = WinnowPageGetGroup(BufferGetPage(room->group));

	for (int done = 0; done < layout->record_bytes;)
	{
		int			page;
		int			offset;
		int			bytes = piece(layout, room->slot, done, &page, &offset);
		int			known = group->nrecord_pages + room->nrecord_pages;
		bool		is_new = page == known;
		Buffer		buffer;
		GenericXLogState *xlog;
		Page		image;

		if (page > known || page >= layout->max_record_pages)
			winnow_corrupted(rel, BufferGetBlockNumber(room->group),
							 "A row has no record.");
		buffer = is_new ?
			winnow_allocate(rel) :
			winnow_read_page(rel,
							 page < group->nrecord_pages ?
								 winnow_record_blocks(layout, group)[page] :
								 room->records[page - group->nrecord_pages],
							 WINNOW_PAGE_DATA, BUFFER_LOCK_EXCLUSIVE);
		xlog = GenericXLogStart(rel);
		image = GenericXLogRegisterBuffer(xlog, buffer, is_new ? GENERIC_XLOG_FULL_IMAGE : 0);
		if (is_new)
		{
			winnow_page_init(image, WINNOW_PAGE_DATA, winnow_birth(rel));
			room->records[room->nrecord_pages++] = BufferGetBlockNumber(buffer);
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
winnow_record_read(Relation rel, const WinnowLayout *layout, BlockNumber head,
				   const BlockNumber *blocks, int nblocks, int slot, XLogRecPtr asof,
				   uint8 *record)
{
	for (int done = 0; done < layout->record_bytes;)
	{
		int			page;
		int			offset;
		int			bytes = piece(layout, slot, done, &page, &offset);
		Buffer		buffer;

		if (page >= nblocks)
			winnow_corrupted(rel, head, "A row has no record.");
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

/* The page with the record of a slot, one of a locked head page's, if records do not go on to other pages */
static Buffer
record_page(Relation rel, const WinnowLayout *layout, Page head, BlockNumber block, int slot,
			int lockmode, int *offset)
{
	const WinnowGroup *group = WinnowPageGetGroup(head);
	int			page;

	Assert(layout->records_per_page > 0);
	(void) piece(layout, slot, 0, &page, offset);
	if (page >= group->nrecord_pages)
		winnow_corrupted(rel, block, "A row has no record.");
	return winnow_read_page(rel, winnow_record_blocks(layout, group)[page], WINNOW_PAGE_DATA,
							lockmode);
}

/*
 * Read a child's imprint into the image of its row.  The head page, a copy or locked, is
 * current.
 */
void
winnow_imprint_read(Relation rel, const WinnowIndex *index, Page head, BlockNumber block, int slot,
					uint8 *image)
{
	const WinnowLayout *layout = &index->inner;
	Buffer		buffer;
	int			offset;

	if (layout->record_bytes == 0)
		return;
	buffer = record_page(rel, layout, head, block, slot, BUFFER_LOCK_SHARE, &offset);
	memcpy(image + layout->imprint_offset, PageGetContents(BufferGetPage(buffer)) + offset,
		   layout->record_bytes);
	UnlockReleaseBuffer(buffer);
}

/*
 * Make the imprint of a child hold for a row that will come to it.  The head page, and the
 * first one of its node, are locked, share at least.
 */
void
winnow_imprint_cover(Relation rel, const WinnowIndex *index, Buffer head, int slot,
					 const uint8 *leaf_image)
{
	const WinnowLayout *layout = &index->inner;
	uint8		imprint[WINNOW_PAGE_USABLE];
	Buffer		buffer;
	int			offset;

	if (layout->record_bytes == 0)
		return;
	buffer = record_page(rel, layout, BufferGetPage(head), BufferGetBlockNumber(head), slot,
						 BUFFER_LOCK_SHARE, &offset);
	memcpy(imprint, PageGetContents(BufferGetPage(buffer)) + offset, layout->record_bytes);
	if (winnow_imprint_add_row(&index->schema, imprint, leaf_image))
	{
		GenericXLogState *xlog;
		Page		page;

		/* others may set bits meanwhile, but nobody clears any */
		LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
		xlog = GenericXLogStart(rel);
		page = GenericXLogRegisterBuffer(xlog, buffer, 0);
		winnow_imprint_add_row(&index->schema, (uint8 *) PageGetContents(page) + offset, leaf_image);
		winnow_data_set_end(page, offset + layout->record_bytes);
		GenericXLogFinish(xlog);
	}
	UnlockReleaseBuffer(buffer);
}

/*
 * Make the imprint of a child that of the image.  The first head page of the node is locked
 * exclusively.
 */
void
winnow_imprint_replace(Relation rel, const WinnowIndex *index, Buffer head, int slot,
					   const uint8 *image)
{
	const WinnowLayout *layout = &index->inner;
	const uint8 *imprint = image + layout->imprint_offset;
	Buffer		buffer;
	int			offset;

	if (layout->record_bytes == 0)
		return;
	buffer = record_page(rel, layout, BufferGetPage(head), BufferGetBlockNumber(head), slot,
						 BUFFER_LOCK_EXCLUSIVE, &offset);
	if (memcmp(PageGetContents(BufferGetPage(buffer)) + offset, imprint, layout->record_bytes) != 0)
	{
		GenericXLogState *xlog = GenericXLogStart(rel);
		Page		page = GenericXLogRegisterBuffer(xlog, buffer, 0);

		memcpy(PageGetContents(page) + offset, imprint, layout->record_bytes);
		winnow_data_set_end(page, offset + layout->record_bytes);
		GenericXLogFinish(xlog);
	}
	UnlockReleaseBuffer(buffer);
}
