// The stages (shiftbench/stages.h), which forward.cpp, gated.cpp, stages.cpp and thin.cpp define and exact.cpp puts
// into the table of the instruction set.
#pragma once

#include "shiftbench/stages.h"

namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS {

void norm_rows(const NormRows<float>&);
void norm_rows(const NormRows<double>&);
void rotate_rows(const RotateRows<float>&);
void rotate_rows(const RotateRows<double>&);
void gate_rows(const GateRows<float>&);
void gate_rows(const GateRows<double>&);
void gated_rows(const GatedRows<float>&);
void gated_rows(const GatedRows<double>&);
void thin_rows(const ThinRows<float>&);
void thin_rows(const ThinRows<double>&);
void attention_rows(const AttentionRows<float>&);
void attention_rows(const AttentionRows<double>&);
void attend_rows(const AttendRows<float>&);
void attend_rows(const AttendRows<double>&);
void norm_forward(const NormForward<float>&);
void norm_forward(const NormForward<double>&);
void heads_forward(const HeadsForward<float>&);
void heads_forward(const HeadsForward<double>&);
void mix_forward(const MixForward<float>&);
void mix_forward(const MixForward<double>&);

}  // namespace shiftbench::cpu::SHIFTBENCH_INSTRUCTIONS
