package config

import "strings"

// nearest gives the known key that name was most likely meant to be: the one
// with the least edits, where a key's last part alone counts as well.
func nearest(name string) string {
	const long = 64 // a longer name is no slip; do not compare it
	name = strings.ToLower(name[:min(len(name), long)])
	best, least := "", 1<<30
	for _, k := range keys {
		d := edits(name, k.Name)
		if _, last, ok := strings.Cut(k.Name, "."); ok {
			_, end, dotted := strings.Cut(name, ".")
			if !dotted {
				end = name
			}
			d = min(d, 1+edits(end, last))
		}
		if d < least {
			best, least = k.Name, d
		}
	}
	return best
}

// edits counts the insertions, deletions and replacements of bytes that make a
// into b (Levenshtein's distance, by the two-row table of Wagner and Fischer).
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
