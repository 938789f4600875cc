"""How the table of dtypes is read from upstream sources (docs/tools/build_dtypes.py)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = ROOT / "docs" / "tools" / "build_dtypes.py"
    spec = importlib.util.spec_from_file_location("build_dtypes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_dtypes"] = module
    spec.loader.exec_module(module)
    return module


FUNCTIONS = """
official:
  - func: exp(Tensor self) -> Tensor
    gen_opapi:
      exec: aclnnExp
  - func: exp.out(Tensor self, *, Tensor(a!) out) -> Tensor(a!)
    gen_opapi:
      structured_inherit: exp
  - func: cdist(Tensor x1, Tensor x2, float p) -> Tensor
    gen_opapi:
      exec: aclnnCdist, x1, x2, p_float, out
  - func: odd(Tensor self, Tensor other) -> Tensor
    gen_opapi:
      exec: aclnnOdd, other, self, out
  - func: scalar(Scalar self, Tensor other) -> Tensor
    gen_opapi:
      exec: aclnnScalar
  - func: mm(Tensor self, Tensor mat2) -> Tensor
    op_api: all_version
"""

PAGE = """# aclnnExp&aclnnInplaceExp

## aclnnExpGetWorkspaceSize

- **参数说明：**

  <table><thead>
    <tr><th>参数名</th><th>描述</th><th>数据类型</th></tr></thead>
  <tbody>
    <tr><td>self（aclTensor*）</td><td>输入</td><td>FLOAT、FLOAT16、DOUBLE</td></tr>
    <tr><td>out</td><td>输出</td><td>FLOAT、BOOL</td></tr>
  </tbody></table>

  <!-- npu="A3" id1 -->
  - <term>Atlas A3 训练系列产品</term>：self数据类型额外支持BFLOAT16。
  <!-- end id1 -->
  <!-- npu="910,310p" id2 -->
  - <term>Atlas 训练系列产品</term>：不支持FLOAT16数据类型。
  <!-- end id2 -->
  <!-- npu="950,910b" id3 -->
  - <term>Ascend 950DT</term>：参数`self`的数据类型不支持DOUBLE。参数`out`的数据类型不支持FLOAT。
  <!-- end id3 -->

- **返回值：**
"""

SOURCE = """
static const std::initializer_list<op::DataType> ASCEND910B_LIST = {
    op::DataType::DT_FLOAT, op::DataType::DT_BF16};
static const std::initializer_list<DataType> ASCEND950_LIST = {DataType::DT_COMPLEX64};
"""


def test_only_kernels_that_hand_their_tensor_on_count(tool: ModuleType) -> None:
    assert list(tool.generated(FUNCTIONS)) == [
        ("exp", "aclnnExp"),
        ("exp.out", "aclnnExp"),
        ("cdist", "aclnnCdist"),
    ]


def test_documentation_is_read_by_product_line(tool: ModuleType) -> None:
    found = tool.documented(PAGE, "aclnnExp")
    both = {"float32", "float16"}
    assert found == {"A2": both, "A3": {*both, "float64", "bfloat16"}, "950DT": both}
    assert tool.documented(PAGE, "aclnnSin") is None
    assert tool.documented(PAGE.replace("FLOAT、FLOAT16、DOUBLE", "与self一致"), "aclnnExp") is None


def test_lists_for_the_new_line_do_not_count_for_the_others(tool: ModuleType) -> None:
    old = {"float32", "bfloat16"}
    assert tool.in_source(SOURCE) == {"A2": old, "A3": old, "950DT": {*old, "complex64"}}
    assert tool.in_source("int x;") is None


def test_the_table_tells_lines_apart(tool: ModuleType) -> None:
    missing = {"A2": ["float64", "bool"], "A3": ["bool"], "950DT": ["bool"]}
    assert tool._written(missing) == "bool A2:float64"
