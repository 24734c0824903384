// The functions that compute the engine's stages (shiftbench/stages.h describes their arguments). forward.cpp,
// merged_projection.cpp, small_batch_linear.cpp and stages.cpp define them, and exact.cpp puts them into the table of
// the instruction set.
#pragma once

#include "shiftbench/stages.h"

namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS {

void norm_derivative(const NormDerivative<float>&);
void norm_derivative(const NormDerivative<double>&);
void rotary_derivative(const RotaryDerivative<float>&);
void rotary_derivative(const RotaryDerivative<double>&);
void activation_derivative(const ActivationDerivative<float>&);
void activation_derivative(const ActivationDerivative<double>&);
void merged_projection_derivative(const MergedProjectionDerivative<float>&);
void merged_projection_derivative(const MergedProjectionDerivative<double>&);
void small_batch_linear(const SmallBatchLinear<float>&);
void small_batch_linear(const SmallBatchLinear<double>&);
void attention_derivative(const AttentionDerivative<float>&);
void attention_derivative(const AttentionDerivative<double>&);
void cached_attention(const CachedAttention<float>&);
void cached_attention(const CachedAttention<double>&);
void norm_forward(const NormForward<float>&);
void norm_forward(const NormForward<double>&);
void split_heads(const SplitHeads<float>&);
void split_heads(const SplitHeads<double>&);
void causal_attention_forward(const CausalAttentionForward<float>&);
void causal_attention_forward(const CausalAttentionForward<double>&);

}  // namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS
