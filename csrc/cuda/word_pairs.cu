#include "word_pairs.h"

namespace shiftbench::cuda {

namespace {

// One thread per element of the block of approximate cosines.
template <class T>
__global__ void scan_kernel(Rows<const T> score, std::int64_t first_row, std::int64_t first_col, Rows<const T> unit,
                            const T* low, const double* cutoff, const std::int64_t* spelling, FoundPairs<T> found) {
    const std::int64_t i = global_thread();
    if (i >= score.rows * score.cols) return;
    const std::int64_t row = i / score.cols, col = i % score.cols, a = first_row + row, b = first_col + col;
    if (a >= b || !(score[row][col] > low[a]) || !(score[row][col] > low[b]) || spelling[a] == spelling[b]) return;
    const double cosine = thread_dot<double>(unit[a], unit[b], unit.cols);
    if (!cooccur(cosine, cutoff[a], cutoff[b])) return;
    const unsigned long long n = atomicAdd(found.count, 1ull);
    found.a[n] = static_cast<std::int32_t>(a);
    found.b[n] = static_cast<std::int32_t>(b);
    found.cosine[n] = static_cast<T>(cosine);
}

// A hash table in shared memory, from a word to its position among the neuron pair's key words. Open addressing with
// linear probing; it is at most half full, so probing ends soon.
struct KeyTable {
    static constexpr int entries = 2 * max_key_words, empty = -1;
    std::int32_t *word, *position;

    // Multiplicative hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4): the factor is a prime
    // close to 2^32 divided by the golden ratio, and the 12 highest of the product's 32 bits index the 4,096 entries.
    __device__ static int start(std::int64_t which) {
        static_assert(entries == 1 << 12);
        return static_cast<int>((static_cast<std::uint32_t>(which) * 2654435761u) >> 20) % entries;
    }
    __device__ void clear() const {
        for (int i = threadIdx.x; i < entries; i += blockDim.x) {
            word[i] = empty;
            position[i] = max_key_words;
        }
    }
    // Puts a word, `which`, with its position, `where`, into the table. Of a word that is put twice the lower position
    // stays.
    __device__ void put(std::int64_t which, std::int32_t where) const {
        for (int i = start(which);; i = (i + 1) % entries) {
            const std::int32_t seen = atomicCAS(word + i, std::int32_t{empty}, static_cast<std::int32_t>(which));
            if (seen != empty && seen != which) continue;
            atomicMin(position + i, where);
            return;
        }
    }
    // The position of a word, or -1 if it is none of the key words. Call it after a barrier that follows the last put.
    __device__ std::int32_t find(std::int32_t which) const {
        for (int i = start(which);; i = (i + 1) % entries) {
            if (word[i] == which) return position[i];
            if (word[i] == empty) return -1;
        }
    }
};

// One block per neuron pair; each of its warps takes one query word at a time and reads that word's list of neighbours.
// With `write` false the kernel adds the number of each neuron pair's word pairs to its element of `count` and reports
// bad words (count_word_pairs); with `write` true it writes the pairs, and `count` holds the index at which each neuron
// pair's next word pair is written (write_word_pairs).
template <bool write, class T>
__global__ void __launch_bounds__(block_threads)
    pairs_kernel(CooccurrenceLists<T> lists, NeuronSide query, NeuronSide key, unsigned long long* count,
                 unsigned long long* first_bad_query, unsigned long long* first_bad_key, std::int64_t* place,
                 T* cosine) {
    __shared__ std::int32_t table_word[KeyTable::entries], table_position[KeyTable::entries];
    const KeyTable table{table_word, table_position};
    const std::int64_t e = blockIdx.x, keys = key.word.cols, queries = query.word.cols;
    table.clear();
    __syncthreads();
    for (std::int64_t j = threadIdx.x; j < keys; j += blockDim.x) {
        const std::int64_t word = key.word[e][j];
        if (word >= 0 && word < lists.words)
            table.put(word, static_cast<std::int32_t>(j));
        else if (!write)
            atomicMin(first_bad_key, static_cast<unsigned long long>(e * keys + j));
    }
    __syncthreads();
    for (std::int64_t j = threadIdx.x; j < keys && !write; j += blockDim.x) {
        const std::int64_t word = key.word[e][j];
        if (word >= 0 && word < lists.words && table.find(static_cast<std::int32_t>(word)) != j)
            atomicMin(first_bad_key, static_cast<unsigned long long>(e * keys + j));
    }
    unsigned long long own_count = 0;
    for (std::int64_t i = threadIdx.x / 32; i < queries; i += blockDim.x / 32) {
        const std::int64_t word = query.word[e][i];
        const std::int8_t sign = query.sign[e][i];
        if (word < 0 || word >= lists.words) {
            if (!write && threadIdx.x % 32 == 0)
                atomicMin(first_bad_query, static_cast<unsigned long long>(e * queries + i));
            continue;
        }
        if (sign == 0) continue;
        for (std::int64_t n = lists.first[word] + threadIdx.x % 32; n < lists.first[word + 1]; n += 32) {
            const std::int32_t j = table.find(lists.other[n]);
            if (j < 0 || key.sign[e][j] != sign) continue;
            if (write) {
                const unsigned long long at = atomicAdd(count + e, 1ull);
                place[at] = i * keys + j;
                cosine[at] = lists.cosine[n];
            } else {
                ++own_count;
            }
        }
    }
    if (!write && own_count) atomicAdd(count + e, own_count);
}

}  // namespace

template <class T>
void cooccurrence_scan(Rows<const T> score, std::int64_t first_row, std::int64_t first_col, Rows<const T> unit,
                       const T* low, const double* cutoff, const std::int64_t* spelling, FoundPairs<T> found,
                       Stream stream) {
    launch(scan_kernel<T>, blocks_for(score.rows * score.cols), block_threads, stream, score, first_row, first_col,
           unit, low, cutoff, spelling, found);
}

template <class T>
void count_word_pairs(CooccurrenceLists<T> lists, NeuronSide query, NeuronSide key, unsigned long long* count,
                      unsigned long long* first_bad_query, unsigned long long* first_bad_key, Stream stream) {
    launch(pairs_kernel<false, T>, query.word.rows, block_threads, stream, lists, query, key, count, first_bad_query,
           first_bad_key, static_cast<std::int64_t*>(nullptr), static_cast<T*>(nullptr));
}

template <class T>
void write_word_pairs(CooccurrenceLists<T> lists, NeuronSide query, NeuronSide key, unsigned long long* next,
                      std::int64_t* place, T* cosine, Stream stream) {
    const auto none = static_cast<unsigned long long*>(nullptr);
    launch(pairs_kernel<true, T>, query.word.rows, block_threads, stream, lists, query, key, next, none, none, place,
           cosine);
}

#define SHIFTBENCH_FOR(T)                                                                                              \
    template void cooccurrence_scan(Rows<const T>, std::int64_t, std::int64_t, Rows<const T>, const T*, const double*, \
                                    const std::int64_t*, FoundPairs<T>, Stream);                                       \
    template void count_word_pairs(CooccurrenceLists<T>, NeuronSide, NeuronSide, unsigned long long*,                  \
                                   unsigned long long*, unsigned long long*, Stream);                                  \
    template void write_word_pairs(CooccurrenceLists<T>, NeuronSide, NeuronSide, unsigned long long*, std::int64_t*,   \
                                   T*, Stream);
SHIFTBENCH_FOR(float)
SHIFTBENCH_FOR(double)

}  // namespace shiftbench::cuda
