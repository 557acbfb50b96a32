/*
 * spool.c
 *		Rows on their way into the index: in memory, or in a temporary file.
 *
 * A spool keeps rows in memory up to its budget and moves to a temporary file
 * when there are more.
 */
#include "postgres.h"

#include "spool.h"

#include "storage/buffile.h"
#include "utils/memutils.h"

struct WinnowSpool
{
	int			image_bytes;
	int			dims;
	Size		row_bytes;
	Size		budget;
	int64		count;
	int64		most;			/* rows the budget has room for */
	int			allocated;		/* rows that memory holds now */
	WinnowRows	rows;			/* in memory, if there is no file */
	BufFile    *file;
	int64		position;		/* of the reader */
	MemoryContext context;
};

static void move_to_file(WinnowSpool *spool);

WinnowSpool *
winnow_spool_create(const WinnowIndex *index, int level, Size budget)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "winnow spool",
												  ALLOCSET_DEFAULT_SIZES);
	WinnowSpool *spool = MemoryContextAllocZero(context, sizeof(WinnowSpool));

	spool->context = context;
	spool->budget = budget;
	spool->image_bytes = winnow_layout(index, level)->image_bytes;
	spool->dims = index->dims;
	spool->row_bytes = sizeof(uint64) + spool->image_bytes + sizeof(float) * index->dims;
	spool->most = Max((int64) (budget / spool->row_bytes), index->list_size);
	spool->most = Min(spool->most, PG_INT32_MAX / 2);
	return spool;
}

/* A spool that is in a file from the start */
WinnowSpool *
winnow_spool_create_file(const WinnowIndex *index, int level, Size budget)
{
	WinnowSpool *spool = winnow_spool_create(index, level, budget);

	move_to_file(spool);
	return spool;
}

/* Make room for the rows, in memory */
static void
allocate_rows(WinnowSpool *spool, int capacity)
{
	MemoryContext old = MemoryContextSwitchTo(spool->context);
	WinnowRows *rows = &spool->rows;
	Size		images = (Size) Max(spool->image_bytes, 1) * capacity;
	Size		vectors = sizeof(float) * spool->dims * capacity;

	if (spool->allocated == 0)
	{
		rows->ids = palloc_extended(sizeof(uint64) * capacity, MCXT_ALLOC_HUGE);
		rows->images = palloc_extended(images, MCXT_ALLOC_HUGE);
		rows->vectors = palloc_extended(vectors, MCXT_ALLOC_HUGE);
	}
	else
	{
		rows->ids = repalloc_huge(rows->ids, sizeof(uint64) * capacity);
		rows->images = repalloc_huge(rows->images, images);
		rows->vectors = repalloc_huge(rows->vectors, vectors);
	}
	spool->allocated = capacity;
	MemoryContextSwitchTo(old);
}

static void
release_rows(WinnowSpool *spool)
{
	if (spool->allocated == 0)
		return;
	pfree(spool->rows.ids);
	pfree(spool->rows.images);
	pfree(spool->rows.vectors);
	spool->allocated = 0;
	spool->rows.count = 0;
}

static void
file_write(WinnowSpool *spool, uint64 id, const uint8 *image, const float *vector)
{
	BufFileWrite(spool->file, &id, sizeof(id));
	BufFileWrite(spool->file, unconstify(uint8 *, image), spool->image_bytes);
	BufFileWrite(spool->file, unconstify(float *, vector), sizeof(float) * spool->dims);
}

/* The budget is spent: go on in a temporary file */
static void
move_to_file(WinnowSpool *spool)
{
	MemoryContext old = MemoryContextSwitchTo(spool->context);

	spool->file = BufFileCreateTemp(false);
	MemoryContextSwitchTo(old);
	for (int i = 0; i < spool->rows.count; i++)
		file_write(spool, spool->rows.ids[i],
				   spool->rows.images + (Size) i * spool->image_bytes,
				   spool->rows.vectors + (Size) i * spool->dims);
	release_rows(spool);
}

void
winnow_spool_add(WinnowSpool *spool, uint64 id, const uint8 *image, const float *vector)
{
	if (spool->file == NULL && spool->count >= spool->most)
		move_to_file(spool);
	if (spool->file != NULL)
		file_write(spool, id, image, vector);
	else
	{
		int			i = spool->rows.count++;

		if (i >= spool->allocated)
			allocate_rows(spool, (int) Min(spool->most, Max(64, (int64) spool->allocated * 2)));
		spool->rows.ids[i] = id;
		memcpy(spool->rows.images + (Size) i * spool->image_bytes, image, spool->image_bytes);
		memcpy(spool->rows.vectors + (Size) i * spool->dims, vector,
			   sizeof(float) * spool->dims);
	}
	spool->count++;
}

int64
winnow_spool_count(const WinnowSpool *spool)
{
	return spool->count;
}

Size
winnow_spool_budget(const WinnowSpool *spool)
{
	return spool->budget;
}

Size
winnow_spool_row_bytes(const WinnowSpool *spool)
{
	return spool->row_bytes;
}

/* Read from the beginning */
void
winnow_spool_rewind(WinnowSpool *spool)
{
	spool->position = 0;
	if (spool->file != NULL && BufFileSeek(spool->file, 0, 0, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not rewind a temporary file of the index build")));
}

static void
file_read(WinnowSpool *spool, void *to, Size bytes)
{
	if (BufFileRead(spool->file, to, bytes) != bytes)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read a temporary file of the index build")));
}

bool
winnow_spool_next(WinnowSpool *spool, uint64 *id, uint8 *image, float *vector)
{
	if (spool->position >= spool->count)
		return false;
	if (spool->file != NULL)
	{
		file_read(spool, id, sizeof(*id));
		file_read(spool, image, spool->image_bytes);
		file_read(spool, vector, sizeof(float) * spool->dims);
	}
	else
	{
		*id = spool->rows.ids[spool->position];
		memcpy(image, spool->rows.images + spool->position * spool->image_bytes,
			   spool->image_bytes);
		memcpy(vector, spool->rows.vectors + spool->position * spool->dims,
			   sizeof(float) * spool->dims);
	}
	spool->position++;
	return true;
}

/* Can the rows be in memory all at once? */
bool
winnow_spool_fits(const WinnowSpool *spool)
{
	return spool->count <= spool->most;
}

/* All rows, in memory; the spool still owns them */
WinnowRows *
winnow_spool_load(WinnowSpool *spool)
{
	Assert(winnow_spool_fits(spool));
	if (spool->file != NULL)
	{
		allocate_rows(spool, (int) spool->count);
		winnow_spool_rewind(spool);
		for (int i = 0; i < spool->count; i++)
			winnow_spool_next(spool, &spool->rows.ids[i],
							  spool->rows.images + (Size) i * spool->image_bytes,
							  spool->rows.vectors + (Size) i * spool->dims);
		spool->rows.count = (int) spool->count;
		BufFileClose(spool->file);
		spool->file = NULL;
	}
	return &spool->rows;
}

void
winnow_spool_free(WinnowSpool *spool)
{
	if (spool->file != NULL)
		BufFileClose(spool->file);
	MemoryContextDelete(spool->context);
}
