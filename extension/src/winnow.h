/*
 * winnow.h
 *		The winnow index: pages, nodes, and what the files of the access method
 *		share.  ../DESIGN.md is the contract behind it.
 */
#ifndef WINNOW_H
#define WINNOW_H

#include "compat.h"

#include "access/amapi.h"
#include "access/generic_xlog.h"
#include "access/reloptions.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/pathnodes.h"
#include "storage/bufpage.h"

#include "attribute.h"
#include "core/quantize.h"
#include "core/refine.h"
#include "core/rotate.h"
#include "filter.h"
#include "vector.h"
#include "wait.h"

#define WINNOW_MAGIC		0x57494E4E	/* "WINN" */
#define WINNOW_VERSION		14	/* of the pages, and of what sessions rely on in each other's locks */
#define WINNOW_META_BLOCK	0

/* Page id in the last bytes of the special space, as other index types do */
#define WINNOW_PAGE_ID		0xFF8D

typedef enum WinnowPageKind
{
	WINNOW_PAGE_META = 1,
	WINNOW_PAGE_HEAD,
	WINNOW_PAGE_DATA,
	WINNOW_PAGE_FREE
} WinnowPageKind;

typedef struct WinnowPageOpaque
{
	uint64		born;			/* WAL position when it became what it is, or 0 */
	uint32		unused;
	uint16		kind;
	uint16		page_id;
} WinnowPageOpaque;

#define WinnowPageGetOpaque(page) \
	((WinnowPageOpaque *) PageGetSpecialPointer(page))

/* The kind of a page that need not be one of ours; 0 if it is not */
#define winnow_page_kind(page) \
	(PageGetSpecialSize(page) == MAXALIGN(sizeof(WinnowPageOpaque)) && \
	 WinnowPageGetOpaque(page)->page_id == WINNOW_PAGE_ID ? \
		 WinnowPageGetOpaque(page)->kind : \
		 0)

/* Bytes of a page between header and special space */
#define WINNOW_PAGE_USABLE \
	((int) (BLCKSZ - MAXALIGN(SizeOfPageHeaderData) - MAXALIGN(sizeof(WinnowPageOpaque))))

/* Build options, and their limits */
#define WINNOW_UNSET				0	/* not given: as the dimensions ask, see below */
#define WINNOW_MIN_LIST_SIZE		8
#define WINNOW_MAX_LIST_SIZE		4096

#define WINNOW_MIN_BITS				1

/* A row that is larger has its vector out of line (TOAST_TUPLE_THRESHOLD) */
#define WINNOW_INLINE_BYTES			2000
#define winnow_is_inline(dims)		((dims) * (int) sizeof(float) <= WINNOW_INLINE_BYTES)

/*
 * To fetch a vector that is stored out of line takes so long that refinement codes,
 * which keep most rows from being fetched, pay where the index is in memory
 * already (DESIGN.md, section 4).
 */
static inline int
winnow_default_bits(int dims)
{
	return winnow_is_inline(dims) ? 1 : 4;
}

/*
 * The larger the lists, the fewer pages are not full, and the fewer lists have to
 * be chosen from; but the more codes are read, which counts where they are long.
 */
static inline int
winnow_default_list_size(int dims)
{
	return winnow_is_inline(dims) ? 768 : 512;
}

/*
 * Children that a build puts into an inner node at most.  A search describes all
 * children of a node that it reads, needed or not: small nodes spare it many of them, but
 * each costs some pages.
 */
#define WINNOW_MOST_CHILDREN		128
#define winnow_inner_size(list_size)	Min(list_size, WINNOW_MOST_CHILDREN)

/* How full nodes are, on average, when they have just been built */
#define WINNOW_NODE_FILL			0.57

/* How full centroids aim to make a node; what comes out larger is halved */
#define WINNOW_CLUSTER_FILL			0.7

/*
 * Rows beyond which a list is split.  There is room above what a build makes, or
 * the first rows that come after it would split one list after the other.
 */
#define WINNOW_LIST_LIMIT(list_size)	((list_size) + (list_size) / 4)

typedef struct WinnowOptions
{
	int32		vl_len_;		/* varlena header (do not touch directly!) */
	int			list_size;		/* rows that a build puts into a list at most, or WINNOW_UNSET */
	int			bits;			/* per dimension; more than 1: refinement codes; or
								 * WINNOW_UNSET */
} WinnowOptions;

/*
 * The meta page keeps a tolerance for so many recall targets, each for searches for
 * 1, 10 and 100 rows
 */
#define WINNOW_RECALL_TARGETS		8
enum
{
	WINNOW_FOR_1,
	WINNOW_FOR_10,
	WINNOW_FOR_100,
	WINNOW_RECALL_KINDS
};

/* What an attribute column was when the index was built */
typedef struct WinnowStoredAttr
{
	uint8		kind;
	uint8		width;
	uint8		prefix;
	uint8		shift;			/* see WinnowAttr */
	Oid			opcintype;
} WinnowStoredAttr;

/* The meta page */
typedef struct WinnowMeta
{
	uint32		magic;
	uint32		version;
	uint16		dims;
	uint16		metric;			/* WinnowMetric */
	uint16		list_size;
	uint16		nattrs;
	uint64		seed;			/* of the rotation */
	float		effective_dim;	/* of the stopping rule, see recall.c */
	float		tolerance[WINNOW_RECALL_KINDS][WINNOW_RECALL_TARGETS];	/* likewise, see calibrate.c */
	BlockNumber root;			/* first head page of the root */
	uint32		retired_pages;	/* of replaced nodes, not freed yet, about */
	uint32		kept_pages;		/* of those, that the last sweep had to keep ... */
	uint64		kept_until;		/* ... the newest of which was retired then, an xid */
	uint64		calibrated_rows;	/* that there were at the last calibration; 0: there was none */
	uint64		counted_rows;	/* that VACUUM, or the build, counted last */
	uint64		new_rows;		/* counted since the last calibration, about */
	uint64		unsettled_rows; /* of those, not yet made up for by regrouping */
	uint32		bits;			/* of refinement codes; 1: there are none */
	WinnowStoredAttr attrs[INDEX_MAX_KEYS];
} WinnowMeta;

#define WinnowPageGetMeta(page) ((WinnowMeta *) PageGetContents(page))

/* Head page of a row group; removed bits and columns follow */
#define WINNOW_RETIRED		0x0001	/* the node was replaced: nothing may be added */

typedef struct WinnowGroup
{
	uint16		level;			/* 0 = leaf */
	uint16		flags;
	uint16		nrows;			/* row slots ever used */
	uint16		ndata;			/* entries of data[] in use */
	BlockNumber first;			/* first head page of the node */
	BlockNumber next;			/* next group of the node */
	uint64		retired_at;		/* next transaction id then (first group) */
	uint16		number;			/* groups of the node in front of this one */
	uint16		nrecord_pages;	/* pages with its rows' records */
	BlockNumber data[FLEXIBLE_ARRAY_MEMBER];	/* data pages with its rows' codes; from
												 * max_data on those with records */
} WinnowGroup;

#define WinnowPageGetGroup(page) ((WinnowGroup *) PageGetContents(page))

/* Inner rows start their image with what is known of the child */
typedef struct WinnowChildStats
{
	uint32		rows;			/* heap rows below, when it was written */
	float		radius2;		/* their mean squared distance to its centroid */
	float		farthest2;		/* of inner products: the largest squared distance to it */
} WinnowChildStats;

/* Count rows as well, as far as the number goes */
static inline void
winnow_add_rows(WinnowChildStats *stats, uint32 rows)
{
	stats->rows = rows < PG_UINT32_MAX - stats->rows ? stats->rows + rows : PG_UINT32_MAX;
}

/* Most bytes that the image of an inner row can have, with its imprint */
#define WINNOW_MAX_CHILD_IMAGE \
	(sizeof(WinnowChildStats) + WINNOW_MAX_IMAGE + WINNOW_PAGE_USABLE)

/*
 * Where things are on the head pages of a level.  Columns are those of the
 * row image, in order: for inner rows the three of WinnowChildStats, then the
 * schema's.
 */
#define WINNOW_STATS_COLUMNS	3
#define WINNOW_LAYOUT_COLUMNS	(WINNOW_MAX_COLUMNS + WINNOW_STATS_COLUMNS)

typedef struct WinnowLayout
{
	int			dims;
	int			size;			/* rows that a build puts into a node at most */
	int			capacity;		/* rows per group */
	int			max_data;		/* data pages that the codes of a group can lie on */
	int			record_bytes;	/* of a row's record, see record.c; 0: there are none */
	int			records_per_page;	/* 0: they go on from one page to the next */
	int			max_record_pages;	/* pages that those of a group can lie on */
	int			mapped_groups;	/* groups whose removed bits are on the node's first page */
	int			group_words;	/* words of a group's removed bits */
	uint16		removed_offset; /* removed bits, from the start of the page */
	uint16		id_offset;		/* TIDs, or blocks of children */
	uint16		id_width;
	int			ncolumns;
	int			schema_column;	/* first column that is the schema's */
	uint16		width[WINNOW_LAYOUT_COLUMNS];	/* bytes per row */
	uint16		image_offset[WINNOW_LAYOUT_COLUMNS];
	uint16		page_offset[WINNOW_LAYOUT_COLUMNS];
	int			imprint_offset; /* inner rows: of the imprint, which follows the columns, in the image */
	int			image_bytes;
} WinnowLayout;

/* What a backend knows of an index; a copy of what relcache keeps */
typedef struct WinnowIndex
{
	int			dims;
	WinnowMetric metric;
	int			list_size;
	int			bits;			/* of refinement codes; 1: there are none */
	float		effective_dim;
	float		tolerance[WINNOW_RECALL_KINDS][WINNOW_RECALL_TARGETS];
	double		calibrated_rows;	/* rows that the tolerances are for; 0: any number */
	int			code_bytes;
	WinnowLayout leaf;
	WinnowLayout inner;
	WinnowSchema schema;
	WinnowRotation *rotation;	/* behind the struct, in the same chunk */
} WinnowIndex;

#define winnow_layout(index, level) ((level) == 0 ? &(index)->leaf : &(index)->inner)

/*
 * Let the statistics reach as far as a row at that squared distance.  Only for inner products, where one long vector
 * may be better than all others.  Returns whether they did not.
 */
static inline bool
winnow_stats_reach(const WinnowIndex *index, WinnowChildStats *stats, double squared)
{
	float		distance2 = winnow_to_float(squared);

	if (index->metric != WINNOW_METRIC_IP || distance2 <= stats->farthest2)
		return false;
	stats->farthest2 = distance2;
	return true;
}

#define WINNOW_MASK_MAX		WINNOW_MASK_WORDS(WINNOW_MAX_LIST_SIZE)

/* A walk along the groups of a node */
typedef struct WinnowChain
{
	BlockNumber node;			/* first head page of the node */
	int			ngroups;		/* met */
	BlockNumber mark;			/* a group met before */
	uint32		steps;			/* since */
	uint32		stride;			/* steps until the mark is moved */
	const uint64 *removed;		/* removed bits on the first head page (views only) */
} WinnowChain;

/* page.c */
extern void winnow_layout_init(WinnowLayout *layout, const WinnowSchema *schema,
							   int dims, int size, int bits, bool leaf);
extern void winnow_code_place(const WinnowLayout *layout, int number, int slot, int *page,
							  int *offset);
extern int	winnow_code_last(const WinnowLayout *layout, int number, int slot);
extern int	winnow_data_pages(const WinnowLayout *layout, int number, int nrows);
extern bool winnow_data_shared(const WinnowLayout *layout, int number);
extern int	winnow_group_pages(const WinnowLayout *layout, const WinnowGroup *group);
extern XLogRecPtr winnow_birth(Relation rel);
extern void winnow_page_init(Page page, WinnowPageKind kind, XLogRecPtr born);
extern void winnow_head_init(Page page, XLogRecPtr born, int level, int number,
							 BlockNumber first);
extern void winnow_finish_head(GenericXLogState *xlog);
extern void winnow_page_write(Relation rel, ForkNumber fork, BlockNumber block, Page image,
							  bool logged);
extern void winnow_group_note(const WinnowLayout *layout, BlockNumber block,
							  const WinnowGroup *group, uint64 *seen, BlockNumber nblocks);
extern void winnow_data_set_end(Page page, int end);
extern void winnow_code_store(const WinnowIndex *index, Page page, int offset,
							  const uint8 *code);
extern void winnow_row_store(const WinnowLayout *layout, Page page, int slot,
							 uint64 id, const uint8 *image);
extern void winnow_row_image(const WinnowLayout *layout, Page page, int slot, uint8 *image);
extern void winnow_row_set_image(const WinnowLayout *layout, Page page, int slot,
								 const uint8 *image);
extern Buffer winnow_try_read_page(Relation rel, BlockNumber block, WinnowPageKind kind,
								   XLogRecPtr asof, int lockmode);
extern Buffer winnow_try_read_head(const WinnowIndex *index, Relation rel, BlockNumber block,
								   int level, XLogRecPtr asof, int lockmode);

/*
 * When a page named those that it names.  A page that CREATE INDEX has written without
 * WAL has no LSN.  What it names was written with it, and whatever has been born
 * since is another page; 0 would ask for no such comparison.
 */
#define winnow_page_asof(page) Max(PageGetLSN(page), 1)

/* For those who follow pointers that cannot be out of date */
#define winnow_read_page(rel, block, kind, lockmode) \
	winnow_try_read_page(rel, block, kind, InvalidXLogRecPtr, lockmode)
#define winnow_read_head(index, rel, block, level, lockmode) \
	winnow_try_read_head(index, rel, block, level, InvalidXLogRecPtr, lockmode)

extern void winnow_chain_start(WinnowChain *chain, BlockNumber node);
extern void winnow_chain_follow(Relation rel, WinnowChain *chain, BlockNumber block,
								Page page);
extern WinnowMeta winnow_read_meta(Relation rel, XLogRecPtr *asof);
extern BlockNumber winnow_read_root(Relation rel, XLogRecPtr *asof);
extern void winnow_page_gone(Relation rel, bool replaying, int *restarts);
pg_noreturn extern void winnow_corrupted(Relation rel, BlockNumber block,
										 const char *detail);

/* A WinnowTick (core/kmeans.h): a cancel is noticed */
static inline void
winnow_check_interrupts(void *arg)
{
	CHECK_FOR_INTERRUPTS();
}

static inline bool
winnow_bit_get(const uint64 *bits, uint32 i)
{
	return (bits[i / 64] >> (i % 64)) & 1;
}

static inline void
winnow_bit_set(uint64 *bits, uint32 i)
{
	bits[i / 64] |= UINT64CONST(1) << (i % 64);
}

static inline void
winnow_bit_clear(uint64 *bits, uint32 i)
{
	bits[i / 64] &= ~(UINT64CONST(1) << (i % 64));
}

static inline uint64
winnow_tid_pack(const ItemPointerData *tid)
{
	return ((uint64) ItemPointerGetBlockNumberNoCheck(tid) << 16) |
		ItemPointerGetOffsetNumberNoCheck(tid);
}

static inline BlockNumber
winnow_tid_block(uint64 id)
{
	return (BlockNumber) (id >> 16);
}

static inline OffsetNumber
winnow_tid_offset(uint64 id)
{
	return (OffsetNumber) (id & 0xFFFF);
}

static inline void
winnow_tid_unpack(uint64 id, ItemPointerData *tid)
{
	ItemPointerSet(tid, winnow_tid_block(id), winnow_tid_offset(id));
}

/* A packed TID, or the block of a child */
static inline uint64
winnow_row_id(const WinnowLayout *layout, Page page, int slot)
{
	const char *from = (char *) page + layout->id_offset + layout->id_width * slot;

	if (layout->id_width == sizeof(ItemPointerData))
	{
		ItemPointerData tid;

		memcpy(&tid, from, sizeof(tid));
		return winnow_tid_pack(&tid);
	}
	else
	{
		BlockNumber child;

		memcpy(&child, from, sizeof(child));
		return child;
	}
}

/*
 * A slot that has been used holds a live row unless its removed bit is set.  The
 * removed bits of a group, given its head page and the first one of its node: they
 * are on that one, so that VACUUM need not change the others, unless the node has
 * more groups than it has room for.
 */
#define winnow_removed_map(layout, page) \
	((uint64 *) ((char *) (page) + (layout)->removed_offset))
#define winnow_is_mapped(layout, group) ((group)->number < (layout)->mapped_groups)

static inline uint64 *
winnow_removed_bits(const WinnowLayout *layout, Page first, Page page)
{
	WinnowGroup *group = WinnowPageGetGroup(page);

	if (winnow_is_mapped(layout, group))
		return winnow_removed_map(layout, first) + group->number * layout->group_words;
	return winnow_removed_map(layout, page);
}

#define winnow_map_words(layout) ((layout)->mapped_groups * (layout)->group_words)

static inline bool
winnow_is_live(const WinnowLayout *layout, Page first, Page page, int slot)
{
	return slot < WinnowPageGetGroup(page)->nrows &&
		!winnow_bit_get(winnow_removed_bits(layout, first, page), slot);
}

extern int	winnow_count_removed(const uint64 *removed, int nrows);

/* The live rows of a head page */
extern int	winnow_count_live(const WinnowLayout *layout, Page first, Page page);

/* Among the bits of nblocks blocks, set those of n */
static inline void
winnow_note_blocks(const BlockNumber *blocks, int n, uint64 *seen, BlockNumber nblocks)
{
	for (int i = 0; i < n; i++)
		if (blocks[i] < nblocks)
			winnow_bit_set(seen, blocks[i]);
}

/* The blocks of the pages with a group's records */
#define winnow_record_blocks(layout, group) ((group)->data + (layout)->max_data)

/* recent.c */
extern Buffer winnow_read_buffer(Relation rel, BlockNumber block);
extern void winnow_prefetch(Relation rel, BlockNumber block, int offset, int length);

/* Bytes that the processor fetches at a time */
#define WINNOW_LINE	64

/* Bytes of a run that the processor is asked for: when it gets there it sees what comes next */
#define WINNOW_RUN_AHEAD	512

/* index.c */
extern WinnowIndex *winnow_index_create(Relation rel, const WinnowMeta *meta,
										MemoryContext context);
extern WinnowIndex *winnow_index_open(Relation rel, MemoryContext context);
extern bool winnow_index_shape(Relation rel, int *list_size, int *bits);
extern void winnow_meta_fill(Relation rel, WinnowMeta *meta);
extern Relation winnow_index_relation(Oid oid, LOCKMODE lockmode);
extern bool winnow_index_vector(const WinnowIndex *index, Datum value, float *out);

/* node.c: nodes in memory */
typedef struct WinnowRows
{
	int			count;
	int			nknown;			/* rows with a vector; they come first */
	uint64	   *ids;			/* packed TIDs, or blocks of children */
	uint8	   *images;			/* image_bytes each */
	float	   *vectors;		/* dims each, index space */
} WinnowRows;

typedef struct WinnowNode
{
	BlockNumber block;			/* first head page */
	float	   *centroid;		/* dims */
	uint8	   *image;			/* its row in the parent: stats, summary, imprint */
} WinnowNode;

/* A node that is being written to new pages */
typedef struct WinnowNodeWriter
{
	Relation	rel;
	ForkNumber	fork;
	const WinnowIndex *index;
	int			level;
	const WinnowRows *rows;
	const float *centroid;
	XLogRecPtr	born;
	bool		logged;
} WinnowNodeWriter;

extern WinnowNode *winnow_node_alloc(const WinnowIndex *index);
extern WinnowChildStats winnow_describe_row(const WinnowIndex *index, int level, const uint8 *row,
											WinnowChildStats *stats, uint8 *image);
extern float winnow_mean_radius2(const WinnowIndex *index, int n, const double *squared,
								 const double *weights, const double *below, double far);
extern void winnow_node_write(Relation rel, ForkNumber fork, const WinnowIndex *index,
							  int level, const WinnowRows *rows, bool logged,
							  WinnowNode *node);
extern int	winnow_node_pages(const WinnowIndex *index, int level, int nrows);
extern int	winnow_scanned_pages(const WinnowIndex *index, int level, int nrows);
extern bool winnow_centroid_read(Relation rel, const WinnowIndex *index,
								 const BlockNumber *data, int ndata, XLogRecPtr asof,
								 float *centroid);
extern void winnow_node_centroid(Relation rel, const WinnowIndex *index, BlockNumber node,
								 int level, float *centroid, XLogRecPtr *born);

/* The head pages of a node, as they were at one moment; zeroed to begin with */
typedef struct WinnowHeads
{
	int			ngroups;
	int			allocated;
	BlockNumber *blocks;
	PGAlignedBlock *pages;
} WinnowHeads;

extern bool winnow_heads_copy(Relation rel, const WinnowIndex *index, BlockNumber node,
							  int level, XLogRecPtr asof, Buffer locked,
							  WinnowHeads *heads);
extern int	winnow_heads_pages(const WinnowIndex *index, const WinnowHeads *heads);

/* What a reader takes from one head page */
typedef struct WinnowView
{
	BlockNumber block;
	int			level;
	int			number;			/* groups of the node in front of it */
	XLogRecPtr	born;			/* of the page */
	XLogRecPtr	asof;			/* when the page named the pages that it names, or 0 */
	BlockNumber next;
	WinnowChain chain;			/* of its node */
	bool		hold_first;		/* keep the lock on the first head page, in "held" */
	Buffer		held;
	int			nlive;			/* live rows */
	int			nrows;			/* slots ever used */
	int			ndata;
	BlockNumber *data;			/* room for max_data of either layout */
	int			nrecord_pages;
	BlockNumber *records;		/* pages with records */
	int			nselected;		/* live rows that the filter lets pass */
	bool		sets_apart;		/* but for those in doubt, see winnow_filter_doubtful ... */
	int			ndoubtful;		/* ... which come behind them in "selected" and "ids" */
	bool		asks_imprints;	/* of lists, and how many have been asked for, and did not pass */
	int			nasked;
	int			nruled_out;
	bool		without_ids;	/* do not read ids of rows: winnow_view_name does, of those selected */
	uint64	   *map;			/* removed bits, if the page is the first of its node */
	uint16	   *selected;		/* slots of the selected */
	uint64	   *ids;			/* and ids */
	WinnowChildStats *stats;	/* inner nodes: of the selected */
} WinnowView;

extern WinnowView *winnow_view_alloc(const WinnowIndex *index);
extern void winnow_view_free(WinnowView *view);
extern void winnow_view_note(const WinnowView *view, uint64 *seen, BlockNumber nblocks);
extern bool winnow_view_read(Relation rel, const WinnowIndex *index, BlockNumber block,
							 int level, XLogRecPtr asof, const WinnowFilter *filter,
							 WinnowView *view);
extern bool winnow_view_name(Relation rel, const WinnowIndex *index, WinnowView *view,
							 const uint16 *which, int n);
extern bool winnow_view_estimate(Relation rel, const WinnowIndex *index,
								 const WinnowView *view, const WinnowQueryCode *query,
								 float epsilon, float *estimate, float *lower,
								 float *error, float *norm);
extern void winnow_group_norms(Relation rel, const WinnowIndex *index, Page page,
							   float *norm2);


/* build.c */
extern IndexBuildResult *winnow_build(Relation heap, Relation rel, IndexInfo *info);
extern void winnow_build_empty(Relation rel);
extern char *winnow_build_phase(int64 phase);

/* analyze.c */
extern bool winnow_has_statistics(Oid relation, AttrNumber attno);
extern void winnow_analyze_new(Relation heap);

/* insert.c */
extern bool winnow_insert(Relation rel, Datum *values, bool *isnull, ItemPointer tid,
						  Relation heap, IndexUniqueCheck unique, bool unchanged,
						  IndexInfo *info);

/* descend.c: the way from the root to a leaf */
typedef struct WinnowStep
{
	BlockNumber node;			/* first head page of the inner node */
	BlockNumber group;			/* head page that has the child's row */
	int			slot;
	BlockNumber child;
} WinnowStep;

#define WINNOW_MAX_LEVELS	16

typedef struct WinnowPath
{
	int			nsteps;
	WinnowStep	steps[WINNOW_MAX_LEVELS];	/* from the root down */
	float		squared[WINNOW_MAX_LEVELS]; /* distances of the vector to these children's centroids */
	BlockNumber leaf;
} WinnowPath;

typedef struct WinnowDescent WinnowDescent;

extern WinnowDescent *winnow_descent_begin(Relation rel, const WinnowIndex *index);
extern void winnow_descend(WinnowDescent *descent, const float *vector, WinnowPath *path);

/* Pages that the record of one row can lie on */
#define WINNOW_MAX_RECORD_PAGES \
	(2 + (WINNOW_REFINEMENT_HEAD + WINNOW_MAX_DIM * WINNOW_MAX_REFINEMENT_BITS / 8) / \
		 WINNOW_PAGE_USABLE)

/* room.c: changing a node */
typedef struct WinnowRoom
{
	const WinnowLayout *layout;
	Buffer		first;			/* the node's first head page */
	Buffer		held;			/* another head page the caller has locked */
	Buffer		group;			/* head page with the free slot */
	int			slot;
	bool		reused;			/* the slot is one that has lost its row */
	Buffer		data;			/* data page for its code */
	bool		new_data;
	int			offset;			/* of the code, in the page's contents */
	int			nrecord_pages;	/* new pages with records */
	BlockNumber records[WINNOW_MAX_RECORD_PAGES];
	int			nlive;			/* live rows of the node */
} WinnowRoom;

extern bool winnow_step_holds(const WinnowIndex *index, const WinnowStep *step,
							  Buffer first, Buffer group);
extern bool winnow_step_lock(Relation rel, const WinnowIndex *index, const WinnowStep *step,
							 int mode, Buffer *first, Buffer *group);
extern void winnow_step_unlock(Buffer first, Buffer group);
extern void winnow_room_find(Relation rel, const WinnowIndex *index, Buffer first,
							 Buffer held, WinnowRoom *room);
extern void winnow_room_fill_code(Relation rel, const WinnowIndex *index,
								  GenericXLogState *xlog, const WinnowRoom *room,
								  const uint8 *code);
extern void winnow_room_fill_row(GenericXLogState *xlog, const WinnowRoom *room, uint64 id,
								 const uint8 *image);
extern void winnow_room_release(WinnowRoom *room);

/* record.c: pages with records */
extern int	winnow_record_page_count(const WinnowLayout *layout, int nrows);
extern int	winnow_record_page_end(const WinnowLayout *layout, int page, int nrows);
extern void winnow_record_refine(const WinnowIndex *index, const float *vector,
								 const float *centroid, uint8 *record);
extern void winnow_records_write(const WinnowNodeWriter *writer, int start, int nrows,
								 const BlockNumber *blocks);
extern void winnow_record_add(Relation rel, WinnowRoom *room, const uint8 *record);
extern bool winnow_record_read(Relation rel, const WinnowLayout *layout, BlockNumber head,
							   const BlockNumber *blocks, int nblocks, int slot,
							   XLogRecPtr asof, uint8 *record);
extern void winnow_imprint_read(Relation rel, const WinnowIndex *index, Page head,
								BlockNumber block, int slot, uint8 *image);
extern void winnow_imprint_cover(Relation rel, const WinnowIndex *index, Buffer head, int slot,
								 const uint8 *leaf_image);
extern void winnow_imprint_replace(Relation rel, const WinnowIndex *index, Buffer head, int slot,
								   const uint8 *image);

/* free.c: pages that nothing refers to */
extern Buffer winnow_allocate(Relation rel);
extern bool winnow_sweep_pays(Relation rel, Relation heap);
extern BlockNumber winnow_free_pages(Relation rel);
extern void winnow_count_retired(Relation rel, uint32 npages);
extern void winnow_group_retire(WinnowGroup *group);
extern void winnow_retire(Relation rel, Buffer buffer);
extern void winnow_sweep(Relation rel, Relation heap, const WinnowIndex *index,
						 uint64 *seen, BlockNumber nblocks, uint32 retired_before,
						 IndexBulkDeleteResult *stats);

/* replace.c: children of an inner node are replaced by others */
#define WINNOW_MAX_REPLACED	2

typedef int (*WinnowPartRows) (const WinnowIndex *index, int level, const WinnowRows *rows,
							   WinnowRows *parts);

/*
 * Writes the node that is to replace another, whose first head page is locked;
 * NULL if it cannot.  *npages grows by the number of pages that are not needed
 * any more then.
 */
typedef WinnowNode *(*WinnowWriteNode) (void *arg, Buffer first, uint32 *npages);

typedef struct WinnowReplacement
{
	Relation	rel;
	Relation	heap;
	const WinnowIndex *index;
	int			nold;
	BlockNumber old[WINNOW_MAX_REPLACED];
	WinnowStep	steps[WINNOW_MAX_REPLACED];	/* their rows in the parent, in the order of its chain */
	bool		is_root;		/* there is no parent */
	WinnowPartRows part;		/* shares the rows out to the new nodes; NULL: there are none */
	WinnowWriteNode write;		/* or writes the only new node of an only old one */
	void	   *write_arg;
	BlockNumber new[WINNOW_MAX_REPLACED];	/* result: the new nodes */
	int			nchildren;		/* result: of the parent, then */
} WinnowReplacement;

extern bool winnow_replace(WinnowReplacement *replacement);
extern void winnow_load_rows(Relation rel, Relation heap, const WinnowIndex *index,
							 const WinnowHeads *copies, int ncopies, bool vectors,
							 WinnowRows *rows);
extern void winnow_rows_allocate(const WinnowIndex *index, int level, WinnowRows *rows,
								 int count);
extern void winnow_rows_free(WinnowRows *rows);
extern void winnow_rows_add(const WinnowIndex *index, int level, WinnowRows *rows, uint64 id,
							const uint8 *image);

/* merge.c */
typedef struct WinnowChild
{
	WinnowStep	step;			/* its row in the parent */
	int			size;			/* live rows; < 0: it is no more */
	int			told;			/* rows that the parent says there are below it */
	bool		changed;		/* it, or what is below it, has lost or got rows */
	bool		holes;			/* it has slots that have lost their rows */
	bool		fresh;			/* it is the result of a merge */
} WinnowChild;

extern bool winnow_vectors_available(Relation heap, Relation rel, const WinnowIndex *index, int level);
extern bool winnow_merge_children(Relation rel, Relation heap, const WinnowIndex *index,
								  int level, WinnowChild *children, int nchildren);
extern bool winnow_tighten(Relation rel, const WinnowIndex *index, const WinnowStep *step);
extern void winnow_lower_root(Relation rel, const WinnowIndex *index);

/* split.c */
extern int	winnow_part_rows(const WinnowIndex *index, int level, const WinnowRows *rows,
							 WinnowRows *parts);
extern void winnow_split(Relation rel, Relation heap, const WinnowIndex *index,
						 const WinnowPath *path);

/* scan.c */
extern IndexScanDesc winnow_beginscan(Relation rel, int nkeys, int norderbys);
extern void winnow_rescan(IndexScanDesc scan, ScanKey keys, int nkeys,
						  ScanKey orderbys, int norderbys);
extern bool winnow_gettuple(IndexScanDesc scan, ScanDirection direction);
extern void winnow_endscan(IndexScanDesc scan);

/* vacuum.c */
extern IndexBulkDeleteResult *winnow_bulkdelete(IndexVacuumInfo *info,
												IndexBulkDeleteResult *stats,
												IndexBulkDeleteCallback callback,
												void *state);
extern IndexBulkDeleteResult *winnow_vacuumcleanup(IndexVacuumInfo *info,
												   IndexBulkDeleteResult *stats);

/* regroup.c */
extern double winnow_regroup(Relation rel, Relation heap, const WinnowIndex *index,
							 double nrows, double npages);

/* recalibrate.c */
extern bool winnow_count_pays(Relation rel);
extern void winnow_note_rows(Relation rel, double nrows, double nremoved);
extern void winnow_follow(Relation rel, double nrows, BlockNumber nfree);

/* cost.c */
extern void winnow_costestimate(PlannerInfo *root, IndexPath *path, double loop_count,
								Cost *startup, Cost *total, Selectivity *selectivity,
								double *correlation, double *pages);

/* options.c */
extern double winnow_recall;
extern void winnow_options_init(void);
extern bytea *winnow_options(Datum reloptions, bool validate);

/* limit.c */
extern void winnow_limit_init(void);
extern IndexScanState *winnow_node_of(IndexScanDesc scan, int64 *wanted);

/* If more than this share of the rows that match is wanted, all are ranked */
#define WINNOW_ALL_SHARE 0.5

/* What is wanted of a scan that is not a number of rows */
#define WINNOW_WANTED_UNKNOWN	0
#define WINNOW_WANTED_ALL		PG_INT64_MAX

/* plan.c */
extern void winnow_plan_init(void);
extern Selectivity winnow_decided_selectivity(PlannerInfo *root, IndexPath *path);

/* explain.c */
extern void winnow_explain_init(void);

/* structure_lock.c */
extern void winnow_structure_lock(Relation rel);
extern bool winnow_structure_try_lock(Relation rel);
extern void winnow_structure_unlock(Relation rel);

#endif							/* WINNOW_H */
