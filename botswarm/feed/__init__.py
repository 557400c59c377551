"""One feed per venue for all bots: public streams in, ticks and digests out."""
