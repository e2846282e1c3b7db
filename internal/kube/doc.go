// Package kube shows what Kubernetes stores as YAML, without the libraries of Kubernetes.
//
// A value that the API server writes in protobuf is an envelope: the four bytes "k8s\0" and a message of the type
// runtime.Unknown, which names the version and kind of the object and holds its encoding. The envelope tells types
// by name and nothing of their fields: protobuf has only numbers for them. names.txt is the one table of their names, taken
// from the types that Kubernetes declares: all kinds that its API server stores. What it lacks, as what a later version
// adds, is shown by number, as `field3`, and guessed from the bytes: a nested message, a text, or bytes in base64.
// Nothing is left out but what JSON leaves out: zeros of fields that say so there, and times that are not set.
//
// # Rules
//
//  1. Nothing read is trusted: nesting is bounded, and no length is believed before it is checked. Any value gives text or an error, in
//     time that goes with its length.
//  2. The output is YAML that parses to one document. Fields come in the order of the encoding; repeated fields are lists.
package kube
