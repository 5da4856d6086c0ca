package seal

import (
	"bytes"
	"testing"
)

func BenchmarkSealBlock(b *testing.B) { benchBlocks(b, false) }
func BenchmarkOpenBlock(b *testing.B) { benchBlocks(b, true) }

func benchBlocks(b *testing.B, open bool) {
	box := found(b, 1).box(b)
	noise := make([]byte, 512<<10)
	_, _ = seeded(1).Read(noise)
	text := bytes.Repeat(noise[:64], len(noise)/64)
	for i := range text { // compressible as text is, not as zeros are
		if i%5 == 0 {
			text[i] = noise[i]
		}
	}
	for name, plain := range map[string][]byte{"noise": noise, "text": text} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			sealed, ref, err := box.SealBlock(nil, plain, blockOf(plain))
			if err != nil {
				b.Fatal(err)
			}
			var out []byte
			for b.Loop() {
				if open {
					out, err = box.OpenBlock(out[:0], sealed, ref.Epoch, blockOf(plain))
				} else {
					out, _, err = box.SealBlock(out[:0], plain, blockOf(plain))
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRecords(b *testing.B) {
	a := found(b, 1)
	box := a.box(b)
	d := Draft{Folder: folder, Number: 1, Entry: fileOf("a name of some length.txt", listOf(1)), Refs: refsTo(1, box.Epoch())}
	r, _, err := box.SealRecord(seeded(1), a.keys, d)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("seal", func(b *testing.B) {
		rnd := seeded(2)
		for b.Loop() {
			if _, _, err := box.SealRecord(rnd, a.keys, d); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(r.Encode())), "bytes/record")
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			got, err := ParseRecord(r.Encode())
			if err == nil {
				_, err = box.Open(got)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
