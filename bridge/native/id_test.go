package native

import (
	"math"
	"strings"
	"testing"
)

func TestParseID(t *testing.T) {
	long := "cmpl_" + strings.Repeat("a", 128-len("cmpl_")-len("_7"))
	for _, test := range []struct {
		in       string
		id       string // "" for an error
		sequence int32
	}{
		{"cmpl_01J_7", "cmpl_01J", 7},
		{"cmpl_01J_0", "cmpl_01J", 0},
		{"cmpl_01J_10", "cmpl_01J", 10},
		{"cmpl_01J_2147483647", "cmpl_01J", math.MaxInt32},
		{"cmpl_a_b-C_7", "cmpl_a_b-C", 7},
		{"cmpl_1_2_3", "cmpl_1_2", 3},
		{"cmpl___7", "cmpl__", 7},
		{long + "_7", long, 7},

		{"", "", 0},
		{"_", "", 0},
		{"7", "", 0},
		{"_7", "", 0},
		{"cmpl", "", 0},
		{"cmpl_", "", 0},
		{"cmpl_7", "", 0},
		{"cmpl__7", "", 0},
		{"cmpl_01J", "", 0},
		{"cmpl_01J_", "", 0},
		{"cmpl_01J_07", "", 0},
		{"cmpl_01J_00", "", 0},
		{"cmpl_01J_-7", "", 0},
		{"cmpl_01J_-0", "", 0},
		{"cmpl_01J_+7", "", 0},
		{"cmpl_01J_7.0", "", 0},
		{"cmpl_01J_1e3", "", 0},
		{"cmpl_01J_0x7", "", 0},
		{"cmpl_01J_7 ", "", 0},
		{" cmpl_01J_7", "", 0},
		{"cmpl_01J_7\n", "", 0},
		{"cmpl_01J_٧", "", 0},
		{"cmpl_01J_2147483648", "", 0},
		{"cmpl_01J_99999999999999999999", "", 0},
		{"CMPL_01J_7", "", 0},
		{"xcmpl_01J_7", "", 0},
		{"cmpl_0 1J_7", "", 0},
		{"cmpl_é_7", "", 0},
		{"cmpl_a/../b_7", "", 0},
		{"cmpl_a\x00_7", "", 0},
		{long + "a_7", "", 0},
	} {
		id, sequence, err := ParseID(test.in)
		if (err == nil) != (test.id != "") || id != test.id || sequence != test.sequence {
			t.Errorf("%q: got %q, %d, %v", test.in, id, sequence, err)
		}
		if err == nil && FormatID(id, sequence) != test.in {
			t.Errorf("%q: formats as %q", test.in, FormatID(id, sequence))
		}
	}
}
