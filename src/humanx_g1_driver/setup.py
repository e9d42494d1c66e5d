from setuptools import find_packages, setup

package_name = 'humanx_g1_driver'

setup(
    name=package_name,
    version='0.1.0',
    packages=find_packages(exclude=['test']),
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
    ],
    install_requires=['setuptools'],
    zip_safe=True,
    maintainer='HumanX maintainers',
    maintainer_email='maintainers@humanx.invalid',
    description='1 kHz driver of the Unitree G1 with its safety machine, and the simulated G1.',
    license='Apache-2.0',
    extras_require={'test': ['pytest']},
    entry_points={
        'console_scripts': [
            'g1_driver = humanx_g1_driver.node:main',
            'recorder = humanx_g1_driver.recorder:main',
            'sim_g1 = humanx_g1_driver.sim.node:main',
        ],
    },
)
