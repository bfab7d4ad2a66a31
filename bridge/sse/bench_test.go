package sse

import (
	"strings"
	"testing"
)

func BenchmarkReader(b *testing.B) {
	stream := strings.Repeat(block, 1000)
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		r := NewReader(strings.NewReader(stream), 1<<20)
		for n := 0; n < 1000; n++ {
			if _, err := r.Next(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
