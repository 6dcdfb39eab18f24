"""The loops of pre-training and fine-tuning."""
