"""The attribution engine: importance of prompt tokens for response tokens, by forward- and reverse-mode derivatives.

The engine differentiates a transformer that is given as data (`shiftbench.models.block.Transformer`). It runs one
forward pass, keeps what the derivatives need, and sends many derivatives through the layers together, as rows of one
matrix. docs/mathematics.md, section "How it is computed", derives the formulas.

The words of the field, as the code uses them:

tangent, jvp    forward mode: how an intermediate result changes with the scale of one prompt token's embedding
cotangent, vjp  reverse mode: how one response token's probability changes with an intermediate result
derivative      one tangent or one cotangent; also called an item of its chunk
row             one derivative at one position of the text: a vector of the model's width
cut             the position where tangents from the front and cotangents from the back meet (cut.py)
main, opposite  the main derivatives are all those of the mode with fewer of them. Some derivatives of the other mode,
                the opposite ones, run first and store their rows at the cut; the main derivatives are then multiplied
                with those rows.
chunk           derivatives that pass through a layer together; segment: consecutive layers whose forward cache is in
                memory together (schedule.py)

Data flow of `importance()`:

1. importance.py chooses the mode and the cut, and `schedule.plan` divides the memory.
2. segmented_forward.py runs the forward pass and keeps the forward cache of one segment of layers at a time.
3. segment_derivatives.py takes each chunk through the segment's layers; at every layer the main derivatives are
   multiplied with the opposite ones that cut.py stored.
4. layer_derivatives.py does one layer: products with its weights (product.py), and between them the functions of
   part_derivatives.py.
5. part_derivatives.py calls the compiled core (core_calls.py), or torch where the core does not support the numbers.

Files, in the order in which to read them:

importance.py           importance(), total(): both modes, from the embeddings to the result
row_layout.py           which row of the matrix belongs to which derivative and position
schedule.py             how many opposite derivatives; sizes of chunks and segments; threads; the memory plan
forward.py              the forward pass, part by part
forward_cache.py        what the forward pass keeps of each layer
segmented_forward.py    the forward pass, of which one segment of layers is kept at a time
segment_derivatives.py  jvp and vjp of one chunk through a segment, up to the cut or the end
cut.py                  where opposite derivatives store their rows, and the main ones are multiplied with them
layer_derivatives.py    jvp and vjp of one layer: its weights
part_derivatives.py     jvp and vjp of norms, rotation, attention and activations, which stand between the weights
dense_blocks.py         attention's rows as dense blocks, where torch and not the core computes attention
product.py              matrix products: which library, in which precision
core_calls.py           calls of the compiled core
probability.py          gradient of a token's probability by the logits
decoding.py             greedy responses of many prompts together, with one KV cache a layer
masked.py               log-probabilities of a response where prompt tokens' embeddings are zero
autograd.py             the same quantities by torch's autograd, for models and texts that the engine cannot compute

Shape suffixes, the same in every file of this package:

T  positions of the whole text (prefix, prompt, response, padding)
P  prompt tokens                        R  response tokens
D  model width                          F  feed-forward width
H  query heads                          E  width of one head
K  key heads                            G  query heads that share one key head (H = K * G)
V  tokens of the model's vocabulary     O, I  output and input width of any linear map
N  rows: one for each pair of a derivative and a position, or of a token and a position
C  derivatives of one chunk, or masks that are computed together
X  opposite derivatives, whose rows are stored at the cut
B  masks of one prompt                  Q  positions that query, where they are not all T
M  positions of a group that query, or positions that are computed again under a mask
S  positions of a group that are seen   1, 2, 3  a dimension of that size
"""
