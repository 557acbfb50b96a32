/*
 * heap.h
 *		Growing arrays, and binary heaps in such, made by macro for a type.
 *
 * WINNOW_ARRAY(name, type) defines type name_array with
 *		name_add(array, item), and name_extend(array), which appends an item that the
 *		caller fills in.
 * WINNOW_HEAP(name, type, before) defines type name_heap, which has these too, with
 *		name_push(heap, item), name_pop(heap), name_top(heap), and name_order, which puts
 *		things right in one go after name_add.
 * before(a, b) says that *a leaves the heap before *b.
 */
#ifndef WINNOW_HEAP_H
#define WINNOW_HEAP_H

#include "utils/memutils.h"

#define WINNOW_GROWING(name, self, type) \
typedef struct self \
{ \
	Size		count; \
	Size		allocated; \
	type	   *items; \
} self; \
\
static inline type * \
name##_extend(self *array) \
{ \
	if (array->count == array->allocated) \
	{ \
		Size		wanted = array->allocated ? array->allocated * 2 : 256; \
\
		/* an error must not leave it with more than it has (search_memory.c) */ \
		array->items = array->items == NULL ? \
			palloc_extended(sizeof(type) * wanted, MCXT_ALLOC_HUGE) : \
			repalloc_huge(array->items, sizeof(type) * wanted); \
		array->allocated = wanted; \
	} \
	return &array->items[array->count++]; \
} \
\
static inline void \
name##_add(self *array, type item) \
{ \
	*name##_extend(array) = item; \
}

#define WINNOW_ARRAY(name, type) WINNOW_GROWING(name, name##_array, type)

#define WINNOW_HEAP(name, type, before) \
WINNOW_GROWING(name, name##_heap, type) \
\
static inline void \
name##_sift_up(name##_heap *heap, Size i) \
{ \
	type		item = heap->items[i]; \
\
	while (i > 0 && before(&item, &heap->items[(i - 1) / 2])) \
	{ \
		heap->items[i] = heap->items[(i - 1) / 2]; \
		i = (i - 1) / 2; \
	} \
	heap->items[i] = item; \
} \
\
static inline void \
name##_sift_down(name##_heap *heap, Size i) \
{ \
	type		item = heap->items[i]; \
\
	for (Size child; (child = 2 * i + 1) < heap->count; i = child) \
	{ \
		/* which of two children is a matter of chance: no branch to predict */ \
		Size		other = child + (child + 1 < heap->count); \
\
		child += before(&heap->items[other], &heap->items[child]); \
		if (!before(&heap->items[child], &item)) \
			break; \
		heap->items[i] = heap->items[child]; \
	} \
	heap->items[i] = item; \
} \
\
static inline void \
name##_order(name##_heap *heap) \
{ \
	for (Size i = heap->count / 2; i-- > 0;) \
		name##_sift_down(heap, i); \
} \
\
static inline void \
name##_push(name##_heap *heap, type item) \
{ \
	name##_add(heap, item); \
	name##_sift_up(heap, heap->count - 1); \
} \
\
static inline type \
name##_pop(name##_heap *heap) \
{ \
	type		item = heap->items[0]; \
\
	heap->items[0] = heap->items[--heap->count]; \
	if (heap->count > 1) \
		name##_sift_down(heap, 0); \
	return item; \
} \
\
static inline type * \
name##_top(name##_heap *heap) \
{ \
	return heap->count > 0 ? &heap->items[0] : NULL; \
}

#endif							/* WINNOW_HEAP_H */
