"""Weights on disk: fp16 safetensors, with what the network is in their header."""

import json

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from qsmbids.core.threads import allowed_threads
from qsmbids.files import FileError
from qsmbids.networks.autoqsm import AutoQSM
from qsmbids.networks.border import BorderNetwork
from qsmbids.networks.lesionnet import LesionNetwork
from qsmbids.networks.pedqnet import PedQNet
from qsmbids.networks.pocsnet import DeepQSM, POCSnet2
from qsmbids.networks.segmenter import SegmentationNetwork
from qsmbids.networks.shells import POCSnet1, SHARQnet
from qsmbids.networks.unetr import UNETR, MaskUNet

NETWORKS = {'pocsnet2': POCSnet2, 'deepqsm': DeepQSM, 'pocsnet1': POCSnet1, 'sharqnet': SHARQnet,
            'autoqsm': AutoQSM, 'segmentation': SegmentationNetwork, 'lesions': LesionNetwork,
            'pedqnet': PedQNet, 'unetr': UNETR, 'maskunet': MaskUNet, 'border': BorderNetwork}


def save_weights(network, path, name, architecture, card):
    """Write a network's weights as fp16.

    Parameters
    ----------
    network : Module
    path : path
    name : str
        In `NETWORKS`.
    architecture : dict
        Arguments that make the network.
    card : dict
        What the model card tells of the training.
    """
    tensors = {key: value.half().contiguous() for key, value in network.state_dict().items()}
    save_file(tensors, path, {'network': name, 'architecture': json.dumps(architecture), 'card': json.dumps(card)})


def load_weights(path):
    """Make the network that a file of weights holds, in float32, ready for inference.

    Returns
    -------
    network : Module
    card : dict

    Raises
    ------
    FileError
        If the file is missing, damaged, or does not fit the network that it names.
    """
    try:
        with safe_open(path, 'pt') as stream:
            header = stream.metadata() or {}
            tensors = {key: stream.get_tensor(key).float() for key in stream.keys()}
        network = NETWORKS[header['network']](**json.loads(header['architecture']))
        network.load_state_dict(tensors)
        card = json.loads(header['card'])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FileError(f'{path}: cannot be read as weights of a network ({error}); '
                        'install qsmbids anew or name another file') from None
    if allowed_threads():
        # Torch may have been loaded a moment ago, by whoever asks.
        torch.set_num_threads(allowed_threads())
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last_3d), card
