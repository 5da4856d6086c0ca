package group

import "errors"

// Refuse gives the message for an error of an Admission. An error that is none
// of the other side's business is ErrProof on the wire.
func Refuse(err error) Refusal {
	for i, reason := range refusals {
		if reason != nil && errors.Is(err, reason) {
			return Refusal{Why: uint8(i)}
		}
	}
	return Refuse(ErrProof)
}

// Err gives the reason as an error of this package.
func (r Refusal) Err() error {
	if r.Why == 0 || int(r.Why) >= len(refusals) {
		return ErrProof
	}
	return refusals[r.Why]
}
